"""What is uploaded: deterministic zips, refusals in words."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from workflow_operator.adapters import packages
from workflow_operator.adapters.packages import DEPENDENCIES, LIMIT, code_package, library_package, package_of
from workflow_operator.errors import RefusedError


def names(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


def test_the_same_files_give_the_same_package_in_any_order() -> None:
    one = code_package({"trip.py": b"a", "hotel.py": b"b"})
    two = code_package({"hotel.py": b"b", "trip.py": b"a"})
    assert one == two
    assert one.name.startswith("_ray_pkg_")
    assert one.uri == f"gcs://{one.name}"
    assert names(one.data) == ["hotel.py", "trip.py"]


def test_another_content_gives_another_name() -> None:
    assert code_package({"trip.py": b"a"}).name != code_package({"trip.py": b"b"}).name


def test_the_code_kept_with_a_run_gives_the_package_back() -> None:
    package = code_package({"trip.py": b"a"})
    assert package_of(package.data) == package


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param({}, "holds no file", id="empty"),
        pytest.param({"workflow.py": b""}, "would hide the module 'workflow'", id="workflow.py"),
        pytest.param({"workflow/steps.py": b""}, "would hide the module 'workflow'", id="a folder workflow"),
        pytest.param({"trip.py": b"", "ray.py": b""}, "would hide the module 'ray'", id="ray.py"),
        pytest.param({"big.bin": bytes(LIMIT + 1)}, "Ray takes 100 MiB", id="too large"),
    ],
)
def test_refused(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        code_package(files)


def test_modules_that_only_look_alike_are_taken() -> None:
    assert code_package({"workflow_of_mine.py": b"", "arrays.py": b""})


def test_the_library_lies_beside_its_dependencies_at_the_root(tmp_path: Path) -> None:
    (tmp_path / DEPENDENCIES / "minio" / "__pycache__").mkdir(parents=True)
    (tmp_path / DEPENDENCIES / "minio" / "__init__.py").write_text("")
    (tmp_path / DEPENDENCIES / "minio" / "__pycache__" / "x.pyc").write_text("")
    package = library_package(tmp_path)
    assert {"workflow/__init__.py", "workflow/entrypoint.py", f"{DEPENDENCIES}/minio/__init__.py"} <= set(
        names(package.data)
    )
    assert not [name for name in names(package.data) if "__pycache__" in name]


def test_a_library_without_its_dependencies_says_how_to_fill_them(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"python -m workflow_operator\.adapters\.packages"):
        library_package(tmp_path)


def test_all_pythons_get_the_versions_of_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str], bool]] = []

    def install(tree: Path, python: str, requirements: list[str], *, with_dependencies: bool) -> None:
        asked.append((python, requirements, with_dependencies))
        abi = python.replace(".", "")
        (tree / "cffi").mkdir(parents=True)
        (tree / "cffi" / "__init__.py").write_text("same")
        (tree / f"_cffi.cpython-{abi}-x86_64-linux-gnu.so").write_text(abi)
        (tree / "cffi-2.1.0.dist-info").mkdir()
        (tree / "cffi-2.1.0.dist-info" / "RECORD").write_text(python)

    monkeypatch.setattr(packages, "_install", install)
    packages.build(tmp_path)
    assert [python for python, _, _ in asked] == ["3.10", "3.11", "3.12", "3.13"]
    assert asked[0][2]
    assert all(one[1:] == (["cffi==2.1.0"], False) for one in asked[1:])
    there = {path.name for path in (tmp_path / DEPENDENCIES).rglob("*") if path.is_file()}
    assert there == {"__init__.py", *(f"_cffi.cpython-3{minor}-x86_64-linux-gnu.so" for minor in (10, 11, 12, 13))}


def test_pythons_that_disagree_on_a_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(tree: Path, python: str, requirements: list[str], *, with_dependencies: bool) -> None:
        tree.mkdir(parents=True)
        (tree / "speedups.so").write_text(python)

    monkeypatch.setattr(packages, "_install", install)
    with pytest.raises(RefusedError, match=r"speedups\.so differs"):
        packages.build(tmp_path)
