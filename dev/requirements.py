"""What the machine must have before anything is built, and the packages the project installs by itself.

Called by `dev.cluster` first, so that what is missing is said in the first second and not after ten minutes.
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

_FREE_BYTES: Final = 15 * 1024**3


def check() -> None:
    """See that the machine can carry a cluster.

    Raises:
        SetupError: it cannot; the text lists everything that is missing, each with its remedy.
    """
    missing = problems()
    if missing:
        raise SetupError("this machine cannot carry the cluster yet:\n" + "\n".join(f"  - {text}" for text in missing))


def problems() -> list[str]:
    """Everything that stands against a cluster on this machine, each with its remedy."""
    found = []
    if platform.system() != "Linux":
        return ["only Linux is supported without a Docker engine: start Docker, or use a Linux machine"]
    if sys.version_info < versions.PYTHON_AT_LEAST:
        needed = ".".join(map(str, versions.PYTHON_AT_LEAST))
        found.append(f"Python is {platform.python_version()}: use {needed} or newer")
    if os.geteuid() != 0:
        found.append("network, mounts and containers need root: run as root, or start a Docker engine")
    if shutil.which("apt-get") is None and missing_packages():
        found.append(f"there is no apt-get: install {', '.join(missing_packages())} by the system's own means")
    if shutil.which("go") is None:
        needed = ".".join(map(str, versions.GO_AT_LEAST))
        found.append(f"`go` is not on PATH: install Go {needed} or newer")
    for what, folder in (("cache", paths.cache()), ("state", _existing(paths.state()))):
        free = shutil.disk_usage(folder).free
        if free < _FREE_BYTES:
            variable = f"RAYWORKFLOW_{what.upper()}"
            found.append(f"{folder} has {free / 1024**3:.0f} GiB free, 15 are needed: make room, or set {variable}")
    if not Path("/sys/fs/cgroup").is_dir() or not os.access("/sys/fs/cgroup", os.W_OK):
        found.append("/sys/fs/cgroup is not writable: run in a privileged container or a virtual machine")
    return found


def install_packages() -> None:
    """Install the Debian packages of the node that are not there yet."""
    missing = missing_packages()
    if missing:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with stage(f"install {', '.join(missing)}"):
            run(["apt-get", "update", "-q"], env=quiet)
            run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], env=quiet)


def missing_packages() -> list[str]:
    """Which of the node's Debian packages are not installed."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\n", *versions.APT_NODE]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return list(versions.APT_NODE)
    installed = {line.split()[1] for line in listed.splitlines() if line.startswith("ii")}
    return [name for name in versions.APT_NODE if name not in installed]


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
