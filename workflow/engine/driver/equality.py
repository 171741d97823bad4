"""Compares values of users, whose `==` may be missing, may raise, or may return an array. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from workflow.log import values
from workflow.log.pickled import whole

_LONGEST_TEXT: Final = 80
_MISSING: Final = object()


def first_difference(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the first name whose values differ, and how; empty if all values are equal.

    Args:
        stored: the values that a run stored, by name.
        given: the values of this process, by name.
    """
    for name in {**stored, **given}:
        old, new = stored.get(name, _MISSING), given.get(name, _MISSING)
        if not equal(old, new):
            return f"{name} is {_shown(old)} in the stored run, and {_shown(new)} here"
    return ""


def equal(first: Any, second: Any) -> bool:
    """Return whether two values are equal, as far as it can be found out.

    Containers are compared item by item. Objects of classes without an `==` of their own are compared by their
    attributes. Values with an `==` that raises or returns no truth are equal if their pickles are.
    """
    return _Comparison().equal(first, second)


class _Comparison:
    """One comparison. A pair of objects that contain themselves is compared once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def equal(self, first: Any, second: Any) -> bool:
        pair = (id(first), id(second))
        if first is second or pair in self._seen:
            return True
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            self._seen.add(pair)
            return first.keys() == second.keys() and all(self.equal(first[key], second[key]) for key in first)
        if type(first) is type(second) and isinstance(first, (list, tuple)):
            self._seen.add(pair)
            return len(first) == len(second) and all(map(self.equal, first, second))
        if type(first) is type(second) and _has_no_own_equality(type(first)):
            self._seen.add(pair)
            if hasattr(first, "__dict__") and not callable(first):
                return self.equal(vars(first), vars(second))
            return _pickle(first) == _pickle(second)
        return _equal_by_operator(first, second)


def _has_no_own_equality(kind: Any) -> bool:
    return bool(kind.__eq__ is object.__eq__)


def _equal_by_operator(first: Any, second: Any) -> bool:
    try:
        found = first == second
    except Exception:  # noqa: BLE001 - the `==` of a user's class may raise anything
        found = None
    if found is True or (found is False and first == first):
        return bool(found)
    return type(first) is type(second) and _pickle(first) == _pickle(second)


def _pickle(value: Any) -> bytes:
    return whole(values.dumps(value, lambda obj: None))


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    text = _repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's `__repr__` may raise anything
        return f"a {type(value).__name__}"
