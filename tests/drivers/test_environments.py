"""Drivers that use the same Ray and the same store, but have other environments, have managers of their own."""

from __future__ import annotations

from pathlib import Path

from tests.support.drivers import Tree, driver


def result_of(folder: Path, namespace: str, verb: str, address: str, where: Path | None = None) -> str:
    """Run the script in a folder, and return the line that it printed."""
    with driver("namespaced.py", str(folder), namespace, verb, address=address, folder=where) as process:
        assert process.ended() == 0, process.output()[-3000:]
        return next(line for line in process.output().splitlines() if line.startswith("result"))


def test_step_finds_named_actors_of_its_drivers_namespace(ray_outside: tuple[Tree, str], folder: Path) -> None:
    _, address = ray_outside
    for namespace in ("first", "second", "", ""):
        assert result_of(folder, namespace, "actor", address) == "result True"


def test_step_imports_from_the_folder_of_its_driver(ray_outside: tuple[Tree, str], folder: Path) -> None:
    _, address = ray_outside
    for name in ("first", "second"):
        where = folder.parent / name
        where.mkdir()
        (where / "users_helper.py").write_text(f"WHERE = {name!r}")
        assert result_of(folder, "", "where", address, where) == f"result {name}"
