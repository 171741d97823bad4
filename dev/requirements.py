"""Requirements of the cluster without Docker, and the Debian packages that the project installs itself.

`dev.cluster` calls this module first, so missing requirements are reported within the first second and not after a
build of ten minutes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from dev import paths, versions
from dev.console import SetupError, run, stage

_FREE_GIB: Final = 15


def check() -> None:
    """Check whether this machine can run the cluster.

    Raises:
        SetupError: it cannot. The message lists every missing requirement with its remedy.
    """
    found = problems()
    if found:
        listed = "\n".join(f"  - {problem}" for problem in found)
        raise SetupError(f"cannot run the cluster on this machine: requirements are missing; fix each one:\n{listed}")


def problems() -> list[str]:
    """Return every missing requirement with its remedy; an empty list means that the cluster can run."""
    found = []
    if platform.system() != "Linux":
        return ["only Linux is supported without a Docker engine: start Docker, or use a Linux machine"]
    if sys.version_info < versions.PYTHON_AT_LEAST:
        needed = ".".join(map(str, versions.PYTHON_AT_LEAST))
        found.append(f"Python {platform.python_version()} is too old: use {needed} or newer")
    if os.geteuid() != 0:
        found.append("networks, mounts and containers need root: run as root, or start a Docker engine")
    if shutil.which("apt-get") is None and missing_packages():
        packages = ", ".join(missing_packages())
        found.append(f"packages are missing and there is no apt-get: install {packages} with your package manager")
    if shutil.which("go") is None:
        needed = ".".join(map(str, versions.GO_AT_LEAST))
        found.append(f"`go` is not on PATH: install Go {needed} or newer")
    for purpose, folder in (("cache", paths.cache()), ("state", _nearest_existing(paths.state()))):
        free = shutil.disk_usage(folder).free / 1024**3
        if free < _FREE_GIB:
            variable = f"RAYWORKFLOW_{purpose.upper()}"
            found.append(f"{folder} has {free:.0f} GiB free and needs {_FREE_GIB}: free some space, or set {variable}")
    if not Path("/sys/fs/cgroup").is_dir() or not os.access("/sys/fs/cgroup", os.W_OK):
        found.append("/sys/fs/cgroup is not writable: use a privileged container or a virtual machine")
    return found


def install_packages() -> None:
    """Install the Debian packages of the node that are missing."""
    missing = missing_packages()
    if missing:
        noninteractive = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with stage(f"install {', '.join(missing)}"):
            run(["apt-get", "update", "-q"], env=noninteractive)
            run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], env=noninteractive)


def missing_packages() -> list[str]:
    """Return the Debian packages of the node that are not installed."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\n", *versions.APT_NODE]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return list(versions.APT_NODE)
    installed = {line.split()[1] for line in listed.splitlines() if line.startswith("ii")}
    return [name for name in versions.APT_NODE if name not in installed]


def _nearest_existing(path: Path) -> Path:
    return path if path.exists() else _nearest_existing(path.parent)
