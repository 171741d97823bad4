"""docs/architecture.md lists every package with its process, and its column on Ray is true."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
ROW = re.compile(r"^\| `(?P<package>[\w.]+)` \| (?P<process>[^|]+) \| (?P<ray>yes|no) \| (?P<content>[^|]+) \|$", re.M)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "workflow",
        "workflow_operator",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


@pytest.fixture(scope="module")
def rows() -> dict[str, re.Match[str]]:
    found = list(ROW.finditer(PAGE.read_text()))
    assert len({row["package"] for row in found}) == len(found), "a package is listed twice"
    return {row["package"]: row for row in found}


def packages(graph: grimp.ImportGraph) -> set[str]:
    """Return the children of the two root packages; the engine counts by its own children."""
    roots = ("workflow", "workflow.engine", "workflow_operator")
    return {child for root in roots for child in graph.find_children(root)} - {"workflow.engine"}


def test_the_page_lists_every_package(graph: grimp.ImportGraph, rows: dict[str, re.Match[str]]) -> None:
    assert set(rows) == packages(graph)


def test_the_column_on_ray_is_true(graph: grimp.ImportGraph, rows: dict[str, re.Match[str]]) -> None:
    assert "ray" in graph.modules
    with_ray = {package for package in rows if graph.chain_exists(importer=package, imported="ray", as_packages=True)}
    assert with_ray == {package for package, row in rows.items() if row["ray"] == "yes"}


def test_the_contract_without_ray_covers_every_package(rows: dict[str, re.Match[str]]) -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    covered = contracts["importlinter:contract:without-ray"]["source_modules"].split()
    without = {package for package, row in rows.items() if row["ray"] == "no"}
    assert {package for package in without if not package.startswith("workflow_operator.")} == set(covered) - {
        "workflow_operator"
    }


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflow/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_that_claims_no_ray_has_none(path: Path, graph: grimp.ImportGraph) -> None:
    docstring = path.read_text().split('"""')[1] if '"""' in path.read_text() else ""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if re.search(r"(needs no|never imports) Ray", docstring, re.I) and name != "workflow":
        assert not graph.chain_exists(importer=name, imported="ray"), f"{name} imports Ray"
