"""Records survive the log as they were, and what is none is named."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import runs
from workflow.errors import CorruptLogError
from workflow.model import codec
from workflow.model import records as r
from workflow.model.graph import StepOptions

TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field declared so."""
    if kind is StepOptions:
        return st.builds(
            StepOptions,
            max_retries=st.integers(1, 9),
            catch_exceptions=st.booleans(),
            checkpoint=st.none() | st.booleans(),
            allow_inplace=st.booleans(),
            ray=st.dictionaries(st.text(max_size=3), st.integers()),
            metadata=TEXT,
        )
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(
            typing.cast("type[Any]", kind),
            **{field.name: anything(hints[field.name]) for field in dataclasses.fields(kind)},
        )
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([anything(each) for each in typing.get_args(kind)])
    if origin is tuple:
        return st.lists(anything(typing.get_args(kind)[0]), max_size=2).map(tuple)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(*map(anything, typing.get_args(kind)), max_size=2)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        bytes: st.binary(max_size=20),
        type(None): st.none(),
    }
    return simple[kind]


@pytest.mark.parametrize("name", sorted(codec.KINDS))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_record_reads_back_as_it_was_written(name: str, data: st.DataObject) -> None:
    record = data.draw(anything(codec.KINDS[name]))
    assert runs.through_json(record) == record


def test_fields_at_their_default_take_no_room() -> None:
    assert codec.encode(r.StepStarted("a", 1, 1, 2.0)) == {
        "k": "StepStarted", "step_id": "a", "epoch": 1, "attempt": 1, "at": 2.0,
    }  # fmt: skip
    assert "text" not in codec.encode(runs.committed("a"))


def test_a_dag_reads_back_as_it_was_written() -> None:
    dag = runs.graph("a b c:a,b", b=StepOptions(max_retries=3, ray={"num_cpus": 2}))
    assert codec.decode_graph(json.loads(json.dumps(codec.encode_graph(dag)))) == dag


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="no object"),
        pytest.param({}, id="without its kind"),
        pytest.param({"k": "Nonsense"}, id="an unknown kind"),
        pytest.param({"k": "StepStarted"}, id="fields missing"),
        pytest.param(
            {"k": "StepStarted", "step_id": "a", "epoch": 1, "attempt": 1, "at": 1, "x": 1}, id="one too many"
        ),
        pytest.param({"k": "StepStarted", "step_id": 7, "epoch": 1, "attempt": 1, "at": 1}, id="a number for a text"),
        pytest.param(
            {"k": "StepStarted", "step_id": "a", "epoch": True, "attempt": 1, "at": 1}, id="a bool for an int"
        ),
        pytest.param({"k": "StatusChanged", "status": "GONE", "epoch": 1, "at": 1}, id="an unknown status"),
        pytest.param(
            {"k": "StepCommitted", "step_id": "a", "epoch": 1, "value": {"inline": "%%"}}, id="bytes that are none"
        ),
        pytest.param({"k": "StepFailed", "step_id": "a", "epoch": 1, "error": 3}, id="an error that is none"),
    ],
)
def test_what_is_no_record_is_corrupt(data: Any) -> None:
    with pytest.raises(CorruptLogError, match="not a record this version knows"):
        codec.decode(data)


@pytest.mark.parametrize("data", [None, {}, {"steps": 1, "output": "a"}, {"steps": [{}], "output": "a"}], ids=str)
def test_what_is_no_dag_is_corrupt(data: Any) -> None:
    with pytest.raises(CorruptLogError, match="not a DAG this version knows"):
        codec.decode_graph(data)
