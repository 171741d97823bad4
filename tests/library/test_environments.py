"""Drivers that use the same Ray and the same store, but have other environments, have managers of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.drivers import Tree, driver
from workflow.engine.driver.discovery import is_chosen


def result_of(folder: Path, namespace: str, verb: str, address: str, where: Path | None = None) -> str:
    """Run the script in a folder, and return the line that it printed."""
    with driver("namespaced.py", str(folder), namespace, verb, address=address, folder=where) as process:
        assert process.ended() == 0, process.output()[-3000:]
        return next(line for line in process.output().splitlines() if line.startswith("result"))


@pytest.mark.parametrize(
    ("namespace", "chosen"),
    [
        ("orders", True),
        ("5d0a2c1e-7f0b-4a3f-9b1c-0a4f0d1c2b3e", False),
        ("5D0A2C1E-7F0B-4A3F-9B1C-0A4F0D1C2B3E", True),
    ],
)
def test_namespace_that_ray_made_up_is_not_chosen(namespace: str, chosen: bool) -> None:
    assert is_chosen(namespace) is chosen


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
