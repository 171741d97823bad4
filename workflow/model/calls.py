"""Checks the calls of public functions before anything else happens, so that each wrong call has a helpful error.

Python's own TypeError for a wrong call has another class and gives no advice. A wrong argument that is found late fails
inside the library, after Ray was started.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

from workflow.errors import WrongTypeError
from workflow.model import ids
from workflow.model.graph import StepNode
from workflow.model.signatures import without_annotations

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_SHOWN: Final = 100
"""Characters of a value that an error shows at most."""


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = LONGEST_SHOWN


def shown(value: Any) -> str:
    """Return a value as an error shows it: short, on one line, and also if its class cannot represent it."""
    if isinstance(value, StepNode):  # its `repr` contains all steps before it
        return f"the composed workflow of step {value.title!r}"
    try:
        text = " ".join(_shortened.repr(value).split())
    except Exception:  # noqa: BLE001 - a user's `__repr__` may raise anything
        text = f"an object of class {type(value).__qualname__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def is_number(value: object) -> bool:
    """Return whether a value is a real number; numbers of numpy are, `True` and `False` are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """Return the class of a value with its article: `an int`."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def similar(name: str, known: Iterable[str]) -> str:
    """Return a question for a name that is probably misspelled, in brackets; empty if no known name is similar."""
    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1)
    return f" (did you mean {lower[found[0]]!r}?)" if found else ""


def checked_call(name: str, advice: str = "") -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that checks a call before it happens.

    The arguments must match the signature. Arguments with a name in `_CHECKS` must have the type that it has everywhere
    in the library.

    Args:
        name: the function as users write it, for example `workflow.resume`.
        advice: what to do if the arguments do not match the signature.

    Raises (when the function is called):
        WrongTypeError: the arguments do not match the signature, or one has the wrong type.
        InvalidInputError: an argument has a value that is never possible.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        parameters = [each for each in signature.parameters.values() if each.name != "self"]
        expected = f"{name}{without_annotations(signature.replace(parameters=parameters))}"

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise WrongTypeError(f"cannot call {expected}: {error}{'; ' if advice else ''}{advice}") from None
            for argument in given.keys() & _CHECKS.keys():
                _CHECKS[argument](name, argument, given[argument])
            return function(*args, **kwargs)

        return call

    return decorate


def _check_workflow_id(function: str, argument: str, value: Any) -> None:
    if value is None and function.endswith((".run", ".run_async")):  # they generate an id
        return
    ids.check(value, shown(value))


def _check_step_name(function: str, argument: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise WrongTypeError(
            f"{function}: {argument} must be the id or the name of a step, as a string, got {shown(value)}; leave it "
            "out for the whole workflow"
        )


def _check_flag(function: str, argument: str, value: Any) -> None:
    if not isinstance(value, (bool, int)) or value not in (True, False):
        advice = "; to resume one workflow, call workflow.resume(workflow_id)" if argument == "include_failed" else ""
        raise WrongTypeError(f"{function}: {argument} must be True or False, got {shown(value)}{advice}")


_CHECKS: Final[Mapping[str, Callable[[str, str, Any], None]]] = {
    "workflow_id": _check_workflow_id,
    "name": _check_step_name,
    "take_over": _check_flag,
    "include_failed": _check_flag,
}
"""The check of each argument that several public functions have. It gets the function, the argument and the value."""
