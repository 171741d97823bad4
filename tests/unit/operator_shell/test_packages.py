"""Packages: the same files give the same zip, and unusable files are refused with an explanation."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from workflow import packaging
from workflow_operator.adapters import packages
from workflow_operator.adapters.packages import (
    DEPENDENCIES,
    MAX_PACKAGE_BYTES,
    code_package,
    library_package,
    package_of,
)
from workflow_operator.errors import RefusedError


def names(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


def test_same_files_in_any_order_give_the_same_package() -> None:
    first = code_package({"trip.py": b"a", "hotel.py": b"b"})
    second = code_package({"hotel.py": b"b", "trip.py": b"a"})
    assert first == second
    assert first.name.startswith("_ray_pkg_")
    assert first.uri == f"gcs://{first.name}"
    assert names(first.data) == ["hotel.py", "trip.py"]


def test_different_content_gives_a_different_name() -> None:
    assert code_package({"trip.py": b"a"}).name != code_package({"trip.py": b"b"}).name


def test_package_is_restored_from_its_stored_zip() -> None:
    package = code_package({"trip.py": b"a"})
    assert package_of(package.data) == package


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "contains no file", id="empty"),
        pytest.param({"workflow.py": b""}, "would hide the module 'workflow'", id="workflow.py"),
        pytest.param({"workflow/steps.py": b""}, "would hide the module 'workflow'", id="a folder workflow"),
        pytest.param({"trip.py": b"", "ray.py": b""}, "would hide the module 'ray'", id="ray.py"),
        pytest.param({"big.bin": bytes(MAX_PACKAGE_BYTES + 1)}, "Ray accepts at most 100 MiB", id="too large"),
    ],
)
def test_unusable_files_are_refused(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        code_package(files)


def test_names_that_only_resemble_reserved_modules_are_accepted() -> None:
    assert code_package({"workflow_of_mine.py": b"", "arrays.py": b""})


def test_library_and_dependencies_are_at_the_root_of_the_package(tmp_path: Path) -> None:
    (tmp_path / DEPENDENCIES / "minio" / "__pycache__").mkdir(parents=True)
    (tmp_path / DEPENDENCIES / "minio" / "__init__.py").write_text("")
    (tmp_path / DEPENDENCIES / "minio" / "__pycache__" / "x.pyc").write_text("")
    package = library_package(tmp_path)
    assert {"workflow/__init__.py", "workflow/entrypoint.py", f"{DEPENDENCIES}/minio/__init__.py"} <= set(
        names(package.data)
    )
    assert not [name for name in names(package.data) if "__pycache__" in name]


def test_missing_dependencies_are_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"python -m workflow_operator\.adapters\.packages"):
        library_package(tmp_path)


class Installer:
    """Installs a package tree like the real one: a pure module, and extension modules for one Python and machine."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[str, str], list[str], bool]] = []

    def __call__(
        self, tree: Path, target: tuple[str, str], requirements: list[str], *, with_dependencies: bool
    ) -> None:
        self.calls.append((target, requirements, with_dependencies))
        python, machine = target
        abi = f"cpython-{python.replace('.', '')}-{machine}"
        for name, text in {
            "cffi/__init__.py": "same",
            "typing_extensions.py": "same",
            "cffi-2.1.0.dist-info/METADATA": "same",
            "cffi-2.1.0.dist-info/RECORD": python,
            f"_cffi_backend.{abi}-linux-gnu.so": abi,
            "Crypto/__init__.py": "same",
            "Crypto/_raw_aes.abi3.so": machine,
        }.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)


def file_names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_pythons_and_machines_get_the_oldest_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installer = Installer()
    monkeypatch.setattr(packages, "_install", installer)
    packages.build(tmp_path)
    pythons = ("3.10", "3.11", "3.12", "3.13")
    assert [target for target, _, _ in installer.calls] == [
        (python, machine) for machine in ("x86_64", "aarch64") for python in pythons
    ]
    assert installer.calls[0][2]
    assert all(call[1:] == (["cffi==2.1.0"], False) for call in installer.calls[1:])


def test_modules_that_differ_by_machine_have_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{DEPENDENCIES}_old").mkdir()
    monkeypatch.setattr(packages, "_install", Installer())
    packages.build(tmp_path)
    shared = {"cffi/__init__.py", "typing_extensions.py", "cffi-2.1.0.dist-info/METADATA"}
    assert file_names(tmp_path / DEPENDENCIES) == shared
    for machine in ("x86_64", "aarch64"):
        extensions = {f"_cffi_backend.cpython-3{minor}-{machine}-linux-gnu.so" for minor in (10, 11, 12, 13)}
        own = tmp_path / f"{DEPENDENCIES}_{machine}"
        assert file_names(own) == extensions | {"Crypto/__init__.py", "Crypto/_raw_aes.abi3.so"}
        assert (own / "Crypto" / "_raw_aes.abi3.so").read_text() == machine
    assert {path.name for path in tmp_path.iterdir()} == {
        DEPENDENCIES,
        f"{DEPENDENCIES}_x86_64",
        f"{DEPENDENCIES}_aarch64",
    }
    assert f"{DEPENDENCIES}_aarch64/Crypto/_raw_aes.abi3.so" in names(library_package(tmp_path).data)


def test_files_that_differ_between_python_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(tree: Path, target: tuple[str, str], requirements: list[str], *, with_dependencies: bool) -> None:
        tree.mkdir(parents=True, exist_ok=True)
        (tree / "speedups.so").write_text(target[0])

    monkeypatch.setattr(packages, "_install", install)
    with pytest.raises(RefusedError, match=r"speedups\.so differs"):
        packages.build(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built bundle next to the library, in a process whose image has none of the extension modules."""
    monkeypatch.setattr(packages, "_install", Installer())
    packages.build(tmp_path)
    monkeypatch.setattr(packaging, "__file__", str(tmp_path / "workflow" / "packaging.py"))
    monkeypatch.setattr(sys, "path", [])
    for name in [each for each in sys.modules if each.partition(".")[0] in ("Crypto", "_cffi_backend")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_bundle_of_the_machine_is_added_to_the_path(
    bundle: Path, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    for extension in bundle.glob("*/_cffi_backend.*"):  # this process can only find those of its own machine
        extension.unlink()
    packaging.use_bundled_dependencies()
    assert sys.path == [str(bundle / DEPENDENCIES), str(bundle / f"{DEPENDENCIES}_{machine}")]


def test_unsupported_machine_is_refused_with_the_supported_ones(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    supported = r"on riscv64; use an image with Python 3\.10, 3\.11, 3\.12, 3\.13 for aarch64 or x86_64"
    with pytest.raises(ImportError, match=supported):
        packaging.use_bundled_dependencies()


def test_unsupported_python_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    for extension in bundle.glob(f"*/*cpython-3{sys.version_info[1]}-*"):
        extension.unlink()
    with pytest.raises(ImportError, match=r"does not support Python 3\.\d+ on x86_64"):
        packaging.use_bundled_dependencies()
