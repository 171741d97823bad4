"""The result in the status: exact JSON text, or a note."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, read, running, state, view, workflow
from tests.unit.operator.cases import W
from workflow.model.result_text import render
from workflow_operator.api.parse import parse_status
from workflow_operator.api.status import Phase, WorkflowState, dump_status
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.results import RESULT_LIMIT, result_of

READ = f"read it with ray.get(workflow.get_output({build.ID!r}))"


def result(text: str | None) -> tuple[Any, Any]:
    fields = result_of(view(W.SUCCESSFUL, result_text=text))
    return fields.get("result"), fields.get("result_note")


@pytest.mark.parametrize(
    "text",
    [
        "null",
        '{"a": null}',
        "9223372036854775808",
        str(math.factorial(200)),
        "[" * 300 + "]" * 300,
        "[" * 2000 + "]" * 2000,
        '"\\ud800"',
        "1e400",
        "1" * RESULT_LIMIT,
        '"<a set>"',
    ],
    ids=["None", "inner null", "64 bits", "large int", "300 levels", "2000 levels", "surrogate", "float", "limit", "<"],
)
def test_json_text_is_the_result(text: str) -> None:
    assert result(text) == (text, "")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        pytest.param(render(b"x" * 12), "the result is a bytes of 12 bytes", id="bytes"),
        pytest.param(render({1}, 40), "the result is a set, stored in 40 bytes", id="set"),
        pytest.param(render(math.nan), "the result is the float nan, which JSON does not have", id="nan"),
        pytest.param('"' + "x" * RESULT_LIMIT + '"', "the result has more than 4096 characters", id="too large"),
        pytest.param("", "the result has no text in the log", id="no text"),
        pytest.param("b'x'", "the result is not JSON", id="plain text of an earlier version"),
        pytest.param("nan", "the result is not JSON", id="nan of an earlier version"),
        pytest.param("[NaN]", "the result is not JSON", id="constant that JSON does not have"),
    ],
)
def test_other_result_is_a_note(text: str, note: str) -> None:
    assert result(text) == (None, f"{note}: {READ}")


@pytest.mark.parametrize("status", [W.FAILED, W.CANCELED, W.RUNNING])
def test_unsuccessful_run_has_no_result(status: WorkflowStatus) -> None:
    assert result_of(view(status, result_text="1")) == {}


@pytest.mark.parametrize("text", [render(math.factorial(200)), render([[[None]]]), render(b""), render(10**5000)])
def test_workflow_succeeds_with_any_result(text: str) -> None:
    decision = decide(running(workflow(state(Phase.RUNNING)), run=read(view(W.SUCCESSFUL, result_text=text))), NOW)
    assert decision.state.phase is Phase.SUCCEEDED
    assert parse_status({"phase": "Succeeded", **_set(dump_status(decision.state))}) == decision.state


@pytest.mark.parametrize("old", [{"a": 1}, [1], 42, None, True, 1.5])
def test_status_of_an_earlier_version_is_read(old: Any) -> None:
    parsed = parse_status({"phase": "Succeeded", "attempt": 3, "result": old, "resultLocation": "x"})
    assert (parsed.phase, parsed.attempt, parsed.result) == (Phase.SUCCEEDED, 3, None)


def _set(dumped: dict[str, Any]) -> dict[str, Any]:
    empty = dump_status(WorkflowState())
    return {key: value for key, value in dumped.items() if value is not None or empty[key] is not None}
