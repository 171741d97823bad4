"""Records read back as they were written. Data that is not a record is reported as damaged, or as newer."""

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
from workflow.model.status import WorkflowStatus

SNAPSHOT_HEADER = codec.encode(r.SnapshotHeader(1, 1, runs.OWNER, 1.0, WorkflowStatus.RUNNING, False, 0, (), ()))
TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a field that is declared as `kind`."""
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


def test_fields_with_their_default_value_are_left_out() -> None:
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
        pytest.param(None, id="null"),
        pytest.param([], id="not an object"),
        pytest.param({}, id="without its kind"),
        pytest.param({"k": 7}, id="a kind that is not a string"),
        pytest.param({"k": "StepStarted"}, id="fields missing"),
        pytest.param({"k": "StepStarted", "step_id": 7, "epoch": 1, "attempt": 1, "at": 1}, id="a number for a string"),
        pytest.param(
            {"k": "StepStarted", "step_id": "a", "epoch": True, "attempt": 1, "at": 1}, id="a bool for an int"
        ),
        pytest.param({"k": "StatusChanged", "status": 7, "epoch": 1, "at": 1}, id="a number for a status"),
        pytest.param({**SNAPSHOT_HEADER, "functions": [["a", "b"]]}, id="a list for an object"),
        pytest.param({**SNAPSHOT_HEADER, "functions": {"a": 1}}, id="a number in an object of strings"),
        pytest.param(
            {"k": "StepCommitted", "step_id": "a", "epoch": 1, "value": {"inline": "%%"}}, id="text that is not base64"
        ),
        pytest.param({"k": "StepFailed", "step_id": "a", "epoch": 1, "error": 3}, id="a number for an error"),
    ],
)
def test_what_is_not_a_record_is_corrupt(data: Any) -> None:
    with pytest.raises(CorruptLogError, match="not a record: "):
        codec.decode(data)


FAILURE = {"k": "StepFailed", "step_id": "a", "epoch": 1, "error": {"kind": "E", "message": "m"}}
STATUS = {"k": "StatusChanged", "status": "FAILED", "epoch": 1, "at": 1}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"k": 7}, "TypeError('kind 7') in {'k': 7}"),
        ({**STATUS, "status": 7}, "TypeError('7 is not a WorkflowStatus') in {"),
        ({**STATUS, "reason": None}, "TypeError('None is not str') in {"),
        ({**STATUS, "epoch": True}, "TypeError('True is not int') in {"),
        ({**STATUS, "epoch": 1.0}, "TypeError('1.0 is not int') in {"),
        ({**FAILURE, "error": 3}, "TypeError('3 is not a ErrorInfo') in {"),
        ({**SNAPSHOT_HEADER, "functions": []}, "TypeError('[] is not an object') in {"),
        ({**SNAPSHOT_HEADER, "functions": {"a": 1}}, "TypeError('1 is not str') in {"),
        ({}, "KeyError('k') in {}"),
    ],
    ids=str,
)
def test_error_about_a_record_names_its_fault(data: dict[str, Any], fault: str) -> None:
    with pytest.raises(CorruptLogError) as caught:
        codec.decode(data)
    assert str(caught.value).startswith(f"not a record: {fault}")


def test_error_about_a_large_record_is_short() -> None:
    with pytest.raises(CorruptLogError) as caught:
        codec.decode({**FAILURE, "step_id": 7, "x" * 5: None, "traceback": "x" * 1_000_000} | {"k": 1})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "fault"),
    [({"steps": [], "output": 7}, "TypeError('7 is not str')"), (None, "TypeError('None is not a Graph')")],
)
def test_error_about_a_dag_names_its_fault(data: Any, fault: str) -> None:
    with pytest.raises(CorruptLogError) as caught:
        codec.decode_graph(data)
    assert str(caught.value) == f"not a Graph: {fault}"


@pytest.mark.parametrize(
    ("data", "unknown"),
    [
        pytest.param({"k": "Nonsense"}, "record kind 'Nonsense'", id="kind"),
        pytest.param(
            {"k": "StepStarted", "step_id": "a", "epoch": 1, "attempt": 1, "at": 1, "x": 1},
            "field 'x' of StepStarted",
            id="field",
        ),
        pytest.param(
            {"k": "StatusChanged", "status": "GONE", "epoch": 1, "at": 1}, "WorkflowStatus 'GONE'", id="enum value"
        ),
        pytest.param(
            {"k": "StepFailed", "step_id": "a", "epoch": 1, "error": {"kind": "E", "message": "m", "x": 1}},
            "field 'x' of ErrorInfo",
            id="field of a nested object",
        ),
    ],
)
def test_an_unknown_name_in_a_record_is_not_corrupt(data: Any, unknown: str) -> None:
    with pytest.raises(codec.UnknownNameError) as caught:
        codec.decode(data)
    assert str(caught.value) == unknown


def test_an_unknown_name_in_a_dag_is_not_corrupt() -> None:
    data = codec.encode_graph(runs.graph("a"))
    data["steps"][0]["kind"] = "DREAM"
    with pytest.raises(codec.UnknownNameError, match="StepKind 'DREAM'"):
        codec.decode_graph(data)


@pytest.mark.parametrize("data", [None, {}, {"steps": 1, "output": "a"}, {"steps": [{}], "output": "a"}], ids=str)
def test_what_is_not_a_dag_is_corrupt(data: Any) -> None:
    with pytest.raises(CorruptLogError, match="not a Graph: "):
        codec.decode_graph(data)
