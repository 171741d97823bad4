"""Values of users are compared as a user would, whatever their `==` does."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow.engine.driver.equality import equal, first_difference


class Plain:
    """Without an `==` of its own."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Raising(Plain):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


@dataclasses.dataclass
class Point:
    x: Any


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: int) -> None:
        self.x = x


def cycle(value: int) -> list[Any]:
    made: list[Any] = [value]
    made += [made, made]
    return made


PAIRS: dict[str, tuple[Any, Any]] = {
    "numbers": (1, 2),
    "texts": ("flight", "hotel"),
    "lists": ([1, [2]], [1, [3]]),
    "lengths": ([1], [1, 2]),
    "list and tuple": ([1], (1,)),
    "dicts": ({"a": {"b": 1}}, {"a": {"b": 2}}),
    "keys": ({"a": 1}, {"b": 1}),
    "sets": ({1, 2}, {1, 3}),
    "plain objects": (Plain([1]), Plain([2])),
    "dataclasses": (Point(1), Point(2)),
    "slots": (Slotted(1), Slotted(2)),
    "raising": (Raising(1), Raising(2)),
    "arrays": (np.arange(3), np.arange(4)),
    "items of arrays": (np.array([1, 2]), np.array([1, 3])),
    "frames": (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    "not a number": (float("nan"), 1.0),
    "cycles": (cycle(1), cycle(2)),
    "none": (None, 0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_other_values_differ(name: str) -> None:
    first, second = PAIRS[name]
    assert not equal(first, second)
    assert not equal(second, first)


EQUAL: dict[str, Any] = {
    "number": lambda: 1,
    "not a number": lambda: float("nan"),
    "set of texts": lambda: {"a", "b", "c"},
    "nested": lambda: {"a": [Plain(1), (Point([1]), np.arange(3))]},
    "frame": lambda: pd.DataFrame({"a": [1.0, float("nan")]}),
    "raising": lambda: Raising(1),
    "slots": lambda: Slotted(1),
    "cycle": lambda: cycle(1),
    "function": lambda: len,
}


@pytest.mark.parametrize("name", EQUAL)
def test_copies_of_a_value_are_equal(name: str) -> None:
    make = EQUAL[name]
    assert equal(make(), make())


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b is 2 in the stored run, and 3 here"),
        ({"a": 1}, {}, "a is 1 in the stored run, and missing here"),
        ({}, {"a": 1}, "a is missing in the stored run, and 1 here"),
        ({"a": Raising(1)}, {"a": Raising(2)}, "a is a Raising in the stored run, and a Raising here"),
    ],
)
def test_first_difference_names_both_values(stored: dict[str, Any], given: dict[str, Any], expected: str) -> None:
    assert first_difference(stored, given) == expected


def test_long_values_are_cut_in_the_text() -> None:
    assert len(first_difference({"a": "x" * 1000}, {"a": "y" * 1000})) < 250
