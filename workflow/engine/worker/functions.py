"""Finds the current code of stored functions, so that a later epoch of a run executes fixed code.

Functions are stored with the run. When a run is resumed, outcomes stay, and steps without an outcome execute the
current code of their function. This works only for functions that a process can find by module and name. Lambdas,
closures, partials and methods of objects keep their stored code. A driver calls this module in the user's process.
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
    """Return the file name of the script that this process executes; empty if there is none."""
    return Path(str(getattr(sys.modules["__main__"], "__file__", None) or "")).name


def module_of(function: Callable[..., Any]) -> str:
    """Return the module of a function, or an empty string if no later process can find the function by its name."""
    is_plain = isinstance(function, types.FunctionType) and "<" not in function.__qualname__
    module: Any = function.__module__  # None if `exec` made the function
    return module if is_plain and isinstance(module, str) else ""


def store_current(state: RunState, store: Callable[[Callable[..., Any]], str]) -> dict[str, str]:
    """Store the current functions of the steps without an outcome.

    Args:
        state: the state of the run that is about to be claimed.
        store: stores a function in the run's blobs, and returns the blob's name.

    Returns:
        The original blob of each changed function -> the blob of its current code.
    """
    current: dict[str, str | None] = {}
    for step in state.steps.values():
        spec = step.spec
        if spec.module and step.outcome is None and spec.function not in current:
            function = _function_of(spec, state.created.main_script)
            current[spec.function] = store(function) if function is not None else None
    # The comparison is with the code of the last epoch. A change back to the original code is therefore a change, too.
    return {
        original: blob
        for original, blob in current.items()
        if blob is not None and blob != state.functions.get(original, original)
    }


def _function_of(spec: StepSpec, main_script: str) -> Callable[..., Any] | None:
    if spec.module == "__main__" and main_file() != main_script:
        return None  # this process executes another script, whose steps may have the same names
    try:
        module = importlib.import_module(spec.module)
    except ImportError:
        return None
    return _function_named(module, spec.qualname.removeprefix(f"{spec.module}."))


def _function_named(module: types.ModuleType, qualname: str) -> Callable[..., Any] | None:
    """Return the function of the step with this name in a module, or None."""
    found: Any = module
    for part in qualname.split("."):
        found = _attribute(found, part)
    function = _attribute(found, "function")
    return function if isinstance(function, types.FunctionType) and function.__qualname__ == qualname else None


def _attribute(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - the `__getattr__` of a module may raise anything for a name that it does not have
        return None
