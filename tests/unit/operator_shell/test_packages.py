"""Packages: the same files give the same zip, and unusable files are refused with an explanation."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

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


def test_all_python_versions_get_the_packages_of_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installs: list[tuple[str, list[str], bool]] = []

    def install(tree: Path, python: str, requirements: list[str], *, with_dependencies: bool) -> None:
        installs.append((python, requirements, with_dependencies))
        abi = python.replace(".", "")
        (tree / "cffi").mkdir(parents=True)
        (tree / "cffi" / "__init__.py").write_text("same")
        (tree / f"_cffi.cpython-{abi}-x86_64-linux-gnu.so").write_text(abi)
        (tree / "cffi-2.1.0.dist-info").mkdir()
        (tree / "cffi-2.1.0.dist-info" / "RECORD").write_text(python)

    monkeypatch.setattr(packages, "_install", install)
    packages.build(tmp_path)
    assert [python for python, _, _ in installs] == ["3.10", "3.11", "3.12", "3.13"]
    assert installs[0][2]
    assert all(install[1:] == (["cffi==2.1.0"], False) for install in installs[1:])
    file_names = {path.name for path in (tmp_path / DEPENDENCIES).rglob("*") if path.is_file()}
    assert file_names == {"__init__.py", *(f"_cffi.cpython-3{minor}-x86_64-linux-gnu.so" for minor in (10, 11, 12, 13))}


def test_files_that_differ_between_python_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(tree: Path, python: str, requirements: list[str], *, with_dependencies: bool) -> None:
        tree.mkdir(parents=True)
        (tree / "speedups.so").write_text(python)

    monkeypatch.setattr(packages, "_install", install)
    with pytest.raises(RefusedError, match=r"speedups\.so differs"):
        packages.build(tmp_path)
