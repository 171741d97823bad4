"""A later process can find a function by its name, or not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from workflow.engine.worker import functions


def function() -> None:
    """A function at the top of a module."""


class Holder:
    """A class with a method."""

    def method(self) -> None:
        """A method of objects."""


@pytest.mark.parametrize(
    ("given", "module"),
    [
        (function, __name__),
        (Holder.method, __name__),
        (lambda: None, ""),
        (Holder().method, ""),
        (functools.partial(function), ""),
        (len, ""),
    ],
    ids=["function", "method of a class", "lambda", "method of an object", "partial", "builtin"],
)
def test_module_in_which_a_later_process_finds_a_function(given: Callable[..., Any], module: str) -> None:
    assert functions.module_of(given) == module
