"""Where a later process finds the function of a step."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


def module_of(function: Callable[..., Any]) -> str:
    """Return the module of a function, or an empty string if no later process can find the function by its name."""
    is_plain = isinstance(function, types.FunctionType) and "<" not in function.__qualname__
    return function.__module__ if is_plain else ""
