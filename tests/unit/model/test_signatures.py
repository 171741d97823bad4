"""Arguments are checked against the signature of what is called, not of what a decorator wraps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import wrapt

from workflow.model.signatures import ANYTHING, signature_of


def add(left: int, right: int = 1) -> int:
    return left + right


def supplies(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, and supply its first argument."""

    @functools.wraps(function)
    def wrapper(right: int) -> Any:
        return function(1, right)

    return wrapper


def passes_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@wrapt.decorator
def supplies_with_wrapt(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(1, *args, **kwargs)


class Wraps:
    """A decorator that is a class, and supplies an argument."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, right: int) -> Any:
        return self.function(1, right)


class Adds:
    def __init__(self, left: int) -> None:
        self.left = left

    def plus(self, right: int) -> int:
        return self.left + right

    supplied = supplies(plus)


class Raises:
    """A callable that raises for every unknown attribute."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} here")

    def __call__(self, value: int) -> int:
        return value


def with_signature(function: Any, signature: Any) -> Any:
    function.__signature__ = signature
    return function


DECLARED = inspect.Signature([inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
KEPT = with_signature(passes_on(add), DECLARED)


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        pytest.param(add, "(left, right=1)", id="function"),
        pytest.param(supplies(add), "(right)", id="supplies an argument"),
        pytest.param(supplies(supplies(add)), "(right)", id="twice"),
        pytest.param(passes_on(add), "(*args, **kwargs)", id="any arguments"),
        pytest.param(Wraps(add), "(right)", id="class as a decorator"),
        pytest.param(functools.partial(supplies(add), 2), "()", id="partial of a wrapper"),
        pytest.param(Adds(1).plus, "(right)", id="method"),
        pytest.param(Adds(1).supplied, "()", id="method with a wrapper"),
        pytest.param(Adds, "(left)", id="class"),
        pytest.param(functools.cache(add), "(left, right=1)", id="cache"),
        pytest.param(functools.cache(supplies(add)), "(right)", id="cache of a wrapper"),
        pytest.param(KEPT, "(x)", id="declared by a decorator"),
        pytest.param(abs, "(x, /)", id="written in C"),
    ],
)
def test_signature_is_that_of_what_is_called(function: Any, signature: str) -> None:
    parameters = signature_of(function).parameters.values()  # their annotations are those that `functools.wraps` copied
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    assert str(inspect.Signature(bare)) == signature


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(supplies(KEPT), id="copied from the wrapped function"),
        pytest.param(functools.partial(supplies(KEPT)), id="partial of such a wrapper"),
        pytest.param(Wraps(KEPT), id="copied to an object"),
        pytest.param(supplies_with_wrapt(add), id="wrapt"),
        pytest.param(functools.partial(supplies_with_wrapt(add)), id="partial of wrapt"),
        pytest.param(with_signature(passes_on(add), "none"), id="attribute that is no signature"),
        pytest.param(Raises(), id="object that raises"),
        pytest.param(mock.Mock(spec=add), id="double of a function"),
    ],
)
def test_unknown_signature_accepts_anything(function: Any) -> None:
    assert signature_of(function) is ANYTHING


def test_function_without_a_signature_is_reported() -> None:
    with pytest.raises(ValueError, match="no signature found"):
        signature_of(dict)
