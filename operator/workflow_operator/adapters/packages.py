"""Builds the packages for Ray clusters: the library with its dependencies, and the user's code.

A package is a zip that is named by its content. `ray_jobs` uploads it to a head. The folder of dependencies is filled
when the operator's image is built (`python -m workflow_operator.adapters.packages DIR`), so that the operator's pod
needs no package index. The module is an adapter because it reads the file system and starts pip.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import requires
from pathlib import Path

from workflow_operator.errors import RefusedError

MAX_PACKAGE_BYTES = 100 << 20
"""Ray rejects larger packages with HTTP 413."""

DEPENDENCIES = "rayworkflow_deps"
"""Folder in the library's package. `workflow` appends it to `sys.path`, so the packages of the image come first."""

PYTHON_VERSIONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
"""Machines of Ray images, by the names that Linux gives them. Each gets a folder for what differs between them."""

PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
RESERVED_MODULES = frozenset({"workflow", "ray", DEPENDENCIES})
"""Modules that the user's code must not define: `working_dir` is first on `sys.path`, so it would hide them."""

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of all files in a package. It is constant, so that the same files always give the same package."""


@dataclass(frozen=True, slots=True)
class Package:
    """A zip, named by its content.

    Attributes:
        name: `_ray_pkg_<hash>.zip`, which is the form that Ray requires.
        data: the bytes of the zip.
    """

    name: str
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the zip. The code of a run is stored under it."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def uri(self) -> str:
        """URI for a `runtime_env`. Ray unpacks the package and adds its root to `sys.path`."""
        return f"gcs://{self.name}"


def package_of(data: bytes) -> Package:
    """Make a package of the bytes of a zip.

    Raises:
        RefusedError: it is larger than Ray accepts.
    """
    if len(data) > MAX_PACKAGE_BYTES:
        raise RefusedError(
            f"cannot package the code: the zip has {len(data) / (1 << 20):.0f} MiB and Ray accepts at most 100 MiB; "
            f"put large files into the image"
        )
    return Package(f"_ray_pkg_{hashlib.sha256(data).hexdigest()[:32]}.zip", data)


def code_package(files: Mapping[str, bytes]) -> Package:
    """Make a package of the user's code from a ConfigMap.

    Args:
        files: the content of each file by its name. Names have no folders, because the keys of a ConfigMap have none.

    Raises:
        RefusedError: there is no file, a file would hide a module that the run needs, or the zip is too large.
    """
    if not files:
        raise RefusedError("the ConfigMap contains no file; add one, for example with the key `trip.py`")
    for name in sorted(files):
        top = name.split("/", 1)[0].removesuffix(".py")
        if top in RESERVED_MODULES:
            raise RefusedError(
                f"the file {name!r} would hide the module {top!r}, which the run needs; give it another name, and "
                f"change the imports and `spec.entrypoint`"
            )
    return package_of(_zip(files.items(), zipfile.ZIP_STORED))  # uncompressed: a compressor's output varies


def library_package(folder: Path) -> Package:
    """Make a package of the installed library and its dependencies.

    Args:
        folder: the folder that `build` filled with dependencies.

    Raises:
        RefusedError: the folder contains no dependencies, or the zip is too large.
    """
    if not (folder / DEPENDENCIES).is_dir():
        raise RefusedError(
            f"cannot package the library: {folder / DEPENDENCIES} is missing; create it with: "
            f"python -m workflow_operator.adapters.packages {folder}"
        )
    library = _library_folder()
    bundled = [file for each in sorted(folder.glob(f"{DEPENDENCIES}*")) for file in _files(each, folder)]
    return package_of(_zip([*_files(library, library.parent), *bundled]))


def build(folder: Path) -> None:
    """Fill a folder with the library's dependencies for every machine and CPython version of Ray images.

    One tree serves all versions, because the file names of extension modules contain the ABI. The package versions are
    those for the oldest Python, so that each pure-Python file is the same for all. Some extension modules have the same
    name on all machines, so modules that differ between machines get a folder for each machine.

    Args:
        folder: gets the sub-folders `rayworkflow_deps` and `rayworkflow_deps_<machine>`. Existing ones are replaced.

    Raises:
        RefusedError: two Python versions need different content under one file name.
    """
    for old in folder.glob(f"{DEPENDENCIES}*"):
        shutil.rmtree(old)
    (folder / DEPENDENCIES).mkdir(parents=True)
    wanted = _requirements()
    pinned: list[str] = []
    for machine in MACHINES:
        target = folder / f"{DEPENDENCIES}_{machine}"
        for python in PYTHON_VERSIONS:
            with tempfile.TemporaryDirectory() as scratch:
                tree = Path(scratch)
                _install(tree, (python, machine), pinned or wanted, with_dependencies=not pinned)
                pinned = pinned or _versions(tree)
                _merge(tree, target)
    _share(folder)


def _share(folder: Path) -> None:
    """Move each module that is equal on all machines to the common folder."""
    first, *others = (folder / f"{DEPENDENCIES}_{machine}" for machine in MACHINES)
    for entry in sorted(first.iterdir()):
        if all(_content(entry) == _content(other / entry.name) for other in others):
            entry.rename(folder / DEPENDENCIES / entry.name)
            for other in others:
                copy = other / entry.name
                if copy.is_dir():
                    shutil.rmtree(copy)
                else:
                    copy.unlink()


def _content(entry: Path) -> dict[str, bytes] | bytes | None:
    if entry.is_dir():
        return dict(_files(entry, entry))
    return entry.read_bytes() if entry.exists() else None


def _library_folder() -> Path:
    import workflow

    return Path(str(workflow.__file__)).parent


def _requirements() -> list[str]:
    return [
        text for text in requires("rayworkflow") or [] if ";" not in text
    ]  # a requirement with a marker belongs to an extra


def _install(tree: Path, target: tuple[str, str], requirements: list[str], *, with_dependencies: bool) -> None:
    """Install packages for a (Python version, machine) that need not be the ones of this process."""
    python, machine = target
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(tree), "--implementation", "cp", "--python-version", python, "--only-binary=:all:"]
    for platform in PLATFORMS:
        command += ["--platform", f"{platform}_{machine}"]
    if not with_dependencies:
        command.append("--no-deps")
    subprocess.run([*command, *requirements], check=True)


def _versions(tree: Path) -> list[str]:
    found = []
    for info in sorted(tree.glob("*.dist-info")):
        name, version = info.name.removesuffix(".dist-info").rsplit("-", 1)
        found.append(f"{name}=={version}")
    return found


def _merge(tree: Path, target: Path) -> None:
    for name, content in _files(tree, tree):
        parts = name.split("/")
        if parts[0] == "bin" or (parts[0].endswith(".dist-info") and parts[-1] in {"RECORD", "WHEEL", "INSTALLER"}):
            continue
        path = target / name
        if path.exists() and path.read_bytes() != content:
            raise RefusedError(
                f"{name} differs between the Python versions {PYTHON_VERSIONS}; pin a version with equal files"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _files(folder: Path, base: Path) -> Iterable[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(base).as_posix(), path.read_bytes()


def _zip(files: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files):
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.compress_type = compression
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
