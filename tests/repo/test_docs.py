"""The documentation is true: links have targets, names exist, and diagrams match their tables."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from lupa import LuaRuntime

from dev import diagrams, testing
from workflow import errors
from workflow_operator.api.status import Phase

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in ROOT.glob("**/*.md") if not {".venv", "node_modules"} & set(path.parts))
SOURCES = sorted(
    path
    for folder in ("workflow", "operator", "bench", "dev", "examples", "charts", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".txt")
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_point_to_files_of_this_repository(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target.partition("#")[0]).exists()]
    assert not missing, f"{name_of(page)} has broken links: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_on_pages_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+(?:-[a-z]+)*)", page.read_text(), flags=re.MULTILINE))
    assert named <= known, f"{name_of(page)} names make targets that do not exist: {named - known}"


def test_pages_named_in_the_source_exist() -> None:
    named = {found for path in SOURCES for found in re.findall(r"docs/[a-z-]+\.md", path.read_text(errors="ignore"))}
    assert named
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing


def test_files_named_on_pages_exist() -> None:
    named = {
        found
        for page in PAGES
        for found in re.findall(r"`((?:workflow|operator|dev|tests|charts|examples)/[\w./-]+)`", page.read_text())
    }
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing


def test_errors_page_lists_every_error() -> None:
    kinds = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    page = (ROOT / "docs" / "errors.md").read_text()
    assert [name for name in kinds if name != "WorkflowError" and f"| `{name}` |" not in page] == []


def test_states_page_is_drawn_from_the_tables() -> None:
    assert (ROOT / "docs" / "states.md").read_text() == diagrams.states_page(), "run `python -m dev.diagrams`"


def test_every_suite_is_run_and_documented() -> None:
    suites = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    assert suites <= set(testing.SUITES)
    page = (ROOT / "tests" / "README.md").read_text()
    assert [suite for suite in suites if f"| `{suite}/` |" not in page] == []


def lua_health(workflow: dict[str, object]) -> tuple[str, str]:
    """Return the status and message that the health script of docs/argocd.md returns for a Workflow."""
    page = (ROOT / "docs" / "argocd.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (script,) = yaml.safe_load(block)["data"].values()
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals()["obj"] = lua.table_from(workflow, recursive=True)
    health = lua.execute(script)
    return health["status"], health["message"]


@pytest.mark.parametrize("phase", list(Phase), ids=str)
def test_argo_cd_health_covers_every_phase(phase: Phase) -> None:
    seen = {"metadata": {"generation": 1}, "status": {"phase": str(phase), "observedGeneration": 1}}
    wanted = {"Succeeded": "Healthy", "Failed": "Degraded", "Canceled": "Degraded"}
    assert lua_health(seen) == (wanted.get(str(phase), "Progressing"), str(phase))


@pytest.mark.parametrize(
    ("workflow", "health"),
    [
        ({"metadata": {}}, ("Progressing", "the operator has not processed the Workflow yet")),
        (
            {"metadata": {"generation": 2}, "status": {"phase": "Succeeded", "observedGeneration": 1}},
            ("Progressing", "the operator has not processed this generation yet"),
        ),
        (
            {
                "metadata": {},
                "status": {
                    "phase": "Resumable",
                    "conditions": [{"type": "Stalled", "status": "True", "message": "annotate it to go on"}],
                },
            },
            ("Suspended", "annotate it to go on"),
        ),
        (
            {
                "metadata": {},
                "status": {
                    "phase": "Failed",
                    "conditions": [{"type": "Failed", "status": "True", "message": "step fly failed"}],
                },
            },
            ("Degraded", "step fly failed"),
        ),
    ],
    ids=["new", "edited", "waits for a user", "failed"],
)
def test_argo_cd_health_of_special_cases(workflow: dict[str, object], health: tuple[str, str]) -> None:
    assert lua_health(workflow) == health
