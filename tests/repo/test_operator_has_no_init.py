"""`operator/` must never become a package: on `sys.path` it would shadow the standard library's `operator`."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_operator_is_not_a_package() -> None:
    assert (ROOT / "operator").is_dir()
    assert not (ROOT / "operator" / "__init__.py").exists(), (
        "with an __init__.py, `import operator` from the checkout's root finds this folder instead of the standard "
        "library's module, and half of the standard library breaks; put the code into operator/workflow_operator"
    )


def test_standard_module_is_found_from_the_root() -> None:
    found = importlib.machinery.PathFinder.find_spec("operator", [str(ROOT), *sys.path])
    assert found is not None
    assert found.origin is not None
    assert ROOT not in Path(found.origin).parents
