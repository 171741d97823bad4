"""What is uploaded to a Ray cluster: the library with its dependencies as one zip, the user's code as another.

Zips are named by their content and put on a head by `ray_jobs`. The folder of dependencies is filled when the
operator's image is built (`python -m workflow_operator.adapters.packages DIR`), never at run time: the operator's pod
needs no package index. Stands with the adapters because it reads the file system and starts pip.
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

LIMIT = 100 << 20
"""Ray takes no larger package (HTTP 413)."""

DEPENDENCIES = "rayworkflow_deps"
"""Folder in the library's package; `workflow` appends it to the end of `sys.path`, behind all that the user has."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
TAKEN_NAMES = frozenset({"workflow", "ray", DEPENDENCIES})
"""Top-level modules that the code of a Workflow would hide: `working_dir` comes before everything on `sys.path`."""

EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Package:
    """A zip, named by its content.

    Attributes:
        name: `_ray_pkg_<hash>.zip`, as Ray wants it.
        data: the zip.
    """

    name: str
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Digest of the zip; the code of a run is kept under it."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def uri(self) -> str:
        """What a `runtime_env` calls it; Ray unpacks it and puts its root on the path."""
        return f"gcs://{self.name}"


def package_of(data: bytes) -> Package:
    """Name a zip by its bytes.

    Raises:
        Refused: it is larger than Ray takes.
    """
    if len(data) > LIMIT:
        raise RefusedError(
            f"the code is {len(data) / (1 << 20):.0f} MiB as a zip and Ray takes 100 MiB; put large files into the "
            f"image"
        )
    return Package(f"_ray_pkg_{hashlib.sha256(data).hexdigest()[:32]}.zip", data)


def code_package(files: Mapping[str, bytes]) -> Package:
    """Pack the user's code as it lies in a ConfigMap.

    Args:
        files: file name -> content. Names are flat, as a ConfigMap's keys are.

    Raises:
        Refused: there is no file, one would hide a module that the run needs, or all are too large together.
    """
    if not files:
        raise RefusedError("the ConfigMap holds no file; its keys are the names of the modules, for example `trip.py`")
    for name in sorted(files):
        top = name.split("/", 1)[0].removesuffix(".py")
        if top in TAKEN_NAMES:
            raise RefusedError(
                f"the file {name!r} would hide the module {top!r} that the run itself needs; give it another name, and "
                f"change the imports and `spec.entrypoint` accordingly"
            )
    return package_of(_zip(files.items(), zipfile.ZIP_STORED))  # its digest must not hang on a compressor's version


def library_package(folder: Path) -> Package:
    """Pack the library as it is installed here, with the dependencies that `build` put into a folder.

    Args:
        folder: what `build` filled.

    Raises:
        Refused: the folder holds no dependencies.
    """
    dependencies = folder / DEPENDENCIES
    if not dependencies.is_dir():
        raise RefusedError(
            f"{dependencies} is missing; fill it with: python -m workflow_operator.adapters.packages {folder}"
        )
    library = _library_folder()
    return package_of(_zip([*_files(library, library.parent), *_files(dependencies, folder)]))


def build(folder: Path) -> None:
    """Fill a folder with the library's dependencies for every CPython a Ray image may hold.

    One flat tree serves all: extension modules bear their ABI in their names and lie side by side. The versions are
    those of the oldest Python, so that each pure-Python file is the same for all of them.

    Args:
        folder: gets one sub-folder, `rayworkflow_deps`; what was there before is replaced.

    Raises:
        Refused: two Pythons want different content under one name.
    """
    target = folder / DEPENDENCIES
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = _requirements()
        pinned: list[str] = []
        for python in PYTHONS:
            tree = Path(scratch) / python
            _install(tree, python, pinned or wanted, with_dependencies=not pinned)
            pinned = pinned or _versions(tree)
            _merge(tree, target)


def _library_folder() -> Path:
    import workflow

    return Path(str(workflow.__file__)).parent


def _requirements() -> list[str]:
    return [text for text in requires("rayworkflow") or [] if ";" not in text]  # a marker: an extra's, not the log's


def _install(tree: Path, python: str, requirements: list[str], *, with_dependencies: bool) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(tree), "--implementation", "cp", "--python-version", python, "--only-binary=:all:"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
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
            raise RefusedError(f"{name} differs between the Pythons {PYTHONS}; pin a version whose wheels agree")
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
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = compression
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
