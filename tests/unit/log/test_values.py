"""Pickles of the user's values: errors contain advice, and a value without a text is still stored."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from workflow.errors import CorruptLogError, InvalidInputError, StoreUnavailableError
from workflow.log import values


def plain(obj: Any) -> None:
    """Replaces nothing."""


def unknown(kind: str, name: str) -> Any:
    raise AssertionError(f"no mark was expected: {kind} {name}")


class Marked:
    def __init__(self, name: str) -> None:
        self.name = name


def marking(obj: Any) -> tuple[Any, ...] | None:
    return values.mark("thing", obj.name) if isinstance(obj, Marked) else None


def test_marks_represent_objects_stored_elsewhere() -> None:
    data = values.dumps({"a": [Marked("x"), (Marked("y"), 3)]}, marking)
    assert values.loads(data, lambda kind, name: f"{kind} {name}") == {"a": ["thing x", ("thing y", 3)]}


def test_an_object_in_two_places_stays_one_object() -> None:
    shared = [1]
    first, second = values.loads(values.dumps((shared, shared), plain), unknown)
    assert first is second


def test_a_function_pickled_by_value_keeps_its_file_name() -> None:
    written: Any = lambda: (lambda: None).__code__.co_filename  # noqa: E731 - the shortest function
    carried = values.loads(values.dumps(written, plain), unknown)
    assert carried.__code__.co_filename == __file__
    assert carried() == __file__


def test_a_value_that_cannot_be_pickled_is_refused_with_advice() -> None:
    with pytest.raises(InvalidInputError, match=r"a list cannot be pickled: TypeError: .*lock.*; pass data instead"):
        values.dumps([threading.Lock()], plain)


def test_an_unpickling_error_names_both_versions() -> None:
    with pytest.raises(InvalidInputError, match=r"written by python 2, .*read by python 3.* cloudpickle"):
        values.loads(b"no pickle", unknown, "python 2")


def test_an_outage_while_unpickling_is_reported() -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailableError("no answer")

    with pytest.raises(StoreUnavailableError):
        values.dumps(Marked("x"), lambda obj: away() if isinstance(obj, Marked) else None)
    with pytest.raises(StoreUnavailableError):
        values.loads(values.dumps(Marked("x"), marking), away)


def test_a_mark_without_a_resolver_is_reported() -> None:
    import pickle

    data = values.dumps(Marked("x"), marking)
    assert isinstance(data, bytes)
    with pytest.raises(CorruptLogError, match="refers to thing x"):
        pickle.loads(data)
