"""Where a later process finds the function of a step."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


def module_of(function: Callable[..., Any]) -> str:
    """Return the module of a function, or an empty string if no later process can find the function by its name."""
    is_plain = isinstance(function, types.FunctionType) and "<" not in function.__qualname__
    module: Any = function.__module__  # None if `exec` made the function
    return module if is_plain and isinstance(module, str) else ""
