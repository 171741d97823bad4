"""Every import path that the documentation names exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OF_RAY_ONLY = {"workflow.wait"}
"""Names that `ray.workflow` had and this library does not have."""

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAME = re.compile(r"`((?:workflow|workflow_operator|tests|dev)(?:\.[A-Za-z_]\w*)+)(?:\(.*?\))?`")


def names() -> list[tuple[str, str]]:
    """Each path once, with the first page that names it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for name in NAME.findall(page.read_text()):
            found.setdefault(name, str(page.relative_to(ROOT)))
    return sorted((name, page) for name, page in found.items() if name not in OF_RAY_ONLY)


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    if parts[-1] == "__main__":  # importing it would start the program
        return importlib.util.find_spec(name) is not None
    for size in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for part in parts[size:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize(("name", "page"), names())
def test_a_name_in_the_documentation_exists(name: str, page: str) -> None:
    if not name.endswith((".py", ".yaml", ".md", ".dev", ".txt")):
        assert exists(name), f"{page} names {name}"
