"""The project's own Python environment, `.venv` in the checkout, created again only if pyproject.toml changes.

The Makefile calls it first, with the Python of the machine, so it uses only the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
from typing import Final

from dev import paths, versions
from dev.console import SetupError, run, stage

FOLDER: Final = paths.ROOT / ".venv"
PYTHON: Final = FOLDER / "bin" / "python"


def ensure() -> None:
    """Create the environment and install the project into it, unless that was done for this pyproject.toml.

    Raises:
        SetupError: this Python is too old or cannot make environments, or the installation failed.
    """
    described = (paths.ROOT / "pyproject.toml").read_bytes()
    marker = FOLDER / f"installed-{hashlib.sha256(described).hexdigest()[:16]}"
    if marker.exists():
        return
    if sys.version_info < versions.PYTHON_AT_LEAST:
        needed = ".".join(map(str, versions.PYTHON_AT_LEAST))
        raise SetupError(f"Python is {platform.python_version()}: run `make PYTHON=...` with {needed} or newer")
    if importlib.util.find_spec("ensurepip") is None:
        _install_venv_package()
    if not PYTHON.exists():
        with stage(f"make a Python {platform.python_version()} environment"):
            run([sys.executable, "-m", "venv", "--clear", FOLDER])
    with stage("install the project and its tools"):
        run([PYTHON, "-m", "pip", "install", "--quiet", versions.UV])
        # uv links files from its cache, where pip copies and compiles each: 10 seconds instead of 110.
        run(
            [PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", PYTHON, "--editable", ".[dev]"],
            cwd=paths.ROOT,
            env={**os.environ, "UV_NATIVE_TLS": "1"},  # the certificates of the machine, as pip uses them
        )
    for old in FOLDER.glob("installed-*"):
        old.unlink()
    marker.touch()


def _install_venv_package() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError("this Python cannot make environments: install the package python3-venv")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with stage("install python3-venv"):
        run(["apt-get", "update", "-q"], env=quiet)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "python3-venv"], env=quiet)


def main() -> int:
    """Make the environment."""
    try:
        ensure()
    except SetupError as failed:
        print(f"\n{failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
