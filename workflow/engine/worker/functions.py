"""Which code a run goes on with: functions are stored with the run, and a later epoch brings the ones it has now.

That is how a bug is fixed in a run that goes on: outcomes stay, other steps execute the function as it is now, where
it can be found again by module and name. Lambdas, closures, methods of objects and partials stay as they were stored.
Called by the client, in the user's process.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow.model.graph import StepSpec
from workflow.model.state import RunState


def main_file() -> str:
    """File name of the script that this process executes; empty where it executes none."""
    return Path(str(getattr(sys.modules["__main__"], "__file__", None) or "")).name


def module_of(function: Callable[..., Any]) -> str:
    """Where a later process may find a step's function by its name; empty where a name does not tell which it is."""
    plain = isinstance(function, types.FunctionType) and "<" not in function.__qualname__
    return function.__module__ if plain else ""


def present(state: RunState, store: Callable[[Callable[..., Any]], str]) -> dict[str, str]:
    """The functions of the steps without an outcome, as this process has them now.

    Args:
        state: of the run that is about to be claimed.
        store: keeps a function in the run's blobs, and returns the blob's name.

    Returns:
        What was stored with the run -> what is to be executed from now on; only where that is another than before.
    """
    found: dict[str, str | None] = {}
    for step in state.steps.values():
        spec = step.spec
        if spec.module and step.outcome is None and spec.function not in found:
            function = _function_of(spec, state.created.main_script)
            found[spec.function] = store(function) if function is not None else None
    # Compared with what the last epoch executed: code that was set back to what is stored is brought, too.
    return {old: new for old, new in found.items() if new is not None and new != state.functions.get(old, old)}


def _function_of(spec: StepSpec, main: str) -> Callable[..., Any] | None:
    if spec.module == "__main__" and main_file() != main:
        return None  # another script, whose steps may have the same names
    try:
        module = importlib.import_module(spec.module)
    except ImportError:
        return None
    return _function_at(module, spec.qualname.removeprefix(f"{spec.module}."))


def _function_at(module: types.ModuleType, qualname: str) -> Callable[..., Any] | None:
    """The function of the step that stands under a name in a module."""
    at: Any = module
    for part in qualname.split("."):
        at = getattr(at, part, None)
    function = getattr(at, "function", None)
    return function if isinstance(function, types.FunctionType) and function.__qualname__ == qualname else None
