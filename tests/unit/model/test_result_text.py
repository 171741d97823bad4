"""The value of a run as text: exact JSON, or a description that is never JSON."""

from __future__ import annotations

import collections
import enum
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.model import result_text
from workflow.model.result_text import LONGEST, description_of, render, with_no_exception

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


class Lying(type):
    __module__ = property(lambda kind: 1 / 0)


class Liar(metaclass=Lying):
    pass


class Odd(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class Color(str, enum.Enum):
    RED = "red"


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(value=VALUES)
def test_json_text_is_read_back_exactly(value: Any) -> None:
    text = render(value)
    assert json.loads(text) == value
    text.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(None, "null", id="None"),
        pytest.param({"a": None}, '{"a": null}', id="null in a dict"),
        pytest.param(2**63, "9223372036854775808", id="more than 64 bits"),
        pytest.param(math.factorial(200), str(math.factorial(200)), id="large int"),
        pytest.param((1, [True]), "[1, [true]]", id="tuple"),
        pytest.param("é\ud800", '"é\\ud800"', id="lone surrogate"),
        pytest.param({"\udfff": 0}, '{"\\udfff": 0}', id="lone surrogate in a key"),
        pytest.param(Odd(a=1), '{"a": 1}', id="dict with its own items"),
        pytest.param(Color.RED, '"red"', id="enum of texts"),
        pytest.param(nested(300), "[" * 300 + "]" * 300, id="300 levels"),
        pytest.param(nested(5000), "[" * 5000 + "]" * 5000, id="5000 levels"),
        pytest.param([[1]] * 3, "[[1], [1], [1]]", id="shared list"),
        pytest.param("<not a description>", '"<not a description>"', id="text with angle brackets"),
    ],
)
def test_value_is_exact_json(value: Any, text: str) -> None:
    assert render(value) == text


@pytest.mark.parametrize(
    ("value", "size", "description"),
    [
        pytest.param(b"x" * 12, 40, "a bytes of 12 bytes", id="bytes"),
        pytest.param(bytearray(3), 40, "a bytearray of 3 bytes", id="bytearray"),
        pytest.param({1}, 40, "a set, stored in 40 bytes", id="set"),
        pytest.param({1}, 0, "a set", id="size not known"),
        pytest.param(1j, 40, "a complex, stored in 40 bytes", id="complex"),
        pytest.param(Mute(), 40, f"a {__name__}.Mute, stored in 40 bytes", id="object without a text"),
        pytest.param(Liar(), 40, f"a {__name__}.Liar, stored in 40 bytes", id="class with a broken metaclass"),
        pytest.param(collections.Counter, 40, "a type, stored in 40 bytes", id="class"),
        pytest.param(math.nan, 9, "the float nan, which JSON does not have", id="nan"),
        pytest.param(-math.inf, 9, "the float -inf, which JSON does not have", id="infinity"),
        pytest.param([math.inf], 9, "a list that contains the float inf, which JSON does not have", id="inner inf"),
        pytest.param({"a": {1}}, 9, "a dict that contains a set", id="inner set"),
        pytest.param({1: "a"}, 9, "a dict that has a key of type int", id="key"),
        pytest.param(10**5000, 9, "an int of 16610 bits", id="int with more digits than Python writes"),
        pytest.param("x" * 100_000, 9, "a str of 100000 characters", id="long text"),
        pytest.param(["x" * 100_000], 9, "a list that contains a str of 100000 characters", id="inner long text"),
        pytest.param([0] * 100_000, 9, f"a list with more than {LONGEST} characters of JSON", id="long list"),
    ],
)
def test_other_value_is_described_by_its_type(value: Any, size: int, description: str) -> None:
    text = render(value, size)
    assert text == result_text.described(description)
    assert description_of(text) == description
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(text)


def test_value_that_contains_itself_is_described() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert render(endless) == "<a list that contains itself>"
    assert render({"a": endless}) == "<a dict that contains a list that contains itself>"


def test_value_of_exponential_size_is_described_soon() -> None:
    value: Any = ["x"]
    for _ in range(100):
        value = [value, value]
    assert render(value) == f"<a list with more than {LONGEST} characters of JSON>"


def test_no_description_is_longer_than_a_text() -> None:
    named = type("N" * 100_000, (), {})
    assert len(render({"a": named()})) < LONGEST


@pytest.mark.parametrize(
    ("text", "tuple_text"),
    [("1", "[1, null]"), ("<a set>", "<a tuple that contains a set>"), ("", "")],
    ids=["JSON", "description", "no text"],
)
def test_caught_outcome_is_a_tuple(text: str, tuple_text: str) -> None:
    assert with_no_exception(text) == tuple_text
