"""Errors as a user sees them: their classes, their texts and tracebacks, and that a refused call writes nothing."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow import errors
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def held(marks: Marks, name: str = "held") -> str:
    marks.started(name)
    marks.pass_gate(name)
    return name


def deep_in_the_users_code(price: int) -> int:
    return 1 // price


@workflow.step(name="divides")
def divides() -> int:
    return deep_in_the_users_code(0)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda wid: divides.step().run(wid), id="run"),
        pytest.param(lambda wid: ray.get(divides.step().run_async(wid)), id="run_async"),
        pytest.param(lambda wid: ray.get(workflow.resume(wid)), id="resume"),
        pytest.param(lambda wid: ray.get(workflow.get_output(wid)), id="get_output"),
        pytest.param(lambda wid: ray.get(workflow.get_output(wid, name="divides")), id="get_output of the step"),
    ],
)
def test_users_exception_is_raised_with_the_users_traceback(call: Callable[[str], Any], wid: str) -> None:
    with pytest.raises(ZeroDivisionError):
        divides.step().run(wid)
    with pytest.raises(ZeroDivisionError, match="by zero") as caught:
        call(wid)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in divides" in shown
    assert "in deep_in_the_users_code" in shown
    assert "return 1 // price" in shown


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        ("WorkflowExecutionError", [errors.WorkflowError]),
        ("WorkflowCancellationError", [errors.WorkflowExecutionError]),
        ("WorkflowNotFoundError", [ValueError]),
        ("WorkflowRunningError", [ValueError]),
        ("WorkflowNotResumableError", [ValueError]),
    ],
)
def test_errors_have_the_names_of_ray(kind: str, bases: list[type]) -> None:
    for base in bases:
        assert issubclass(getattr(errors, kind), base)
    assert workflow.WorkflowExecutionError is errors.WorkflowExecutionError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WorkflowNotFoundError", errors.WorkflowNotFoundError),
        ("WorkflowRunningError", errors.WorkflowRunningError),
        ("WorkflowExecutionError", errors.WorkflowExecutionError),
        ("WorkflowCancellationError", errors.WorkflowCancellationError),
        ("WorkflowStatus", workflow.WorkflowStatus),
    ],
)
def test_workflow_common_exports_the_names_of_ray(name: str, expected: type) -> None:
    assert getattr(workflow.common, name) is expected


CALLS: dict[str, Callable[[str], Any]] = {
    "get_status": workflow.get_status,
    "get_output": workflow.get_output,
    "get_output of a step": lambda wid: workflow.get_output(wid, name="step"),
    "get_metadata": workflow.get_metadata,
    "resume": workflow.resume,
    "resume with take_over": lambda wid: workflow.resume(wid, take_over=True),
    "cancel": workflow.cancel,
    "delete": workflow.delete,
}


@pytest.mark.parametrize("name", CALLS)
def test_call_on_an_unknown_workflow_writes_nothing(name: str, wid: str, store: Store) -> None:
    def keys() -> set[str]:
        return {info.key for info in store.list("") if not info.key.startswith("managers/")}

    before = keys()
    with pytest.raises(errors.WorkflowNotFoundError, match=f"no workflow '{wid}' is stored at .*list_all"):
        CALLS[name](wid)
    assert keys() == before
    assert not [key for key in keys() if wid in key]


LARGE = 100_000


@workflow.step
def large(fails: bool) -> bytes:
    if fails:
        raise ValueError(b"x" * LARGE)
    return b"x" * LARGE


@pytest.mark.parametrize("fails", [False, True], ids=["value", "exception"])
def test_error_for_a_damaged_value_names_its_key(wid: str, store: Store, fails: bool) -> None:
    reference = large.step(fails).run_async(wid)
    ray.wait([reference])
    (key,) = (info.key for info in store.list(f"workflows/{wid}/runs/") if "/blobs/" in info.key and info.size > LARGE)
    store.overwrite(key, b"damaged")
    for get in (lambda: ray.get(reference), lambda: ray.get(workflow.get_output(wid))):
        with pytest.raises(errors.CorruptLogError, match=key):
            get()


@pytest.mark.parametrize("call", [*CALLS.values(), lambda wid: divides.step().run(wid)], ids=[*CALLS, "run"])
@pytest.mark.parametrize("bad", [7, b"w", ["w"]], ids=["number", "bytes", "list"])
def test_workflow_id_of_another_type_is_a_type_error(call: Callable[[Any], Any], bad: Any) -> None:
    with pytest.raises(TypeError, match=f"{re.escape(repr(bad))} cannot be a workflow id; give any string") as refused:
        call(bad)
    assert isinstance(refused.value, errors.WrongTypeError)


def test_refused_delete_leaves_the_workflow_running(marks: Marks, wid: str) -> None:
    reference = held.step(marks).run_async(wid)
    marks.wait_started("held")
    with pytest.raises(errors.WorkflowRunningError, match=r"cannot delete .* it is RUNNING; call workflow\.cancel\("):
        workflow.delete(wid)
    marks.open("held")
    assert ray.get(reference) == "held"


def test_second_cancel_is_no_op_and_delete_follows(marks: Marks, wid: str, store: Store) -> None:
    held.step(marks, "never").run_async(wid)
    marks.wait_started("never")
    workflow.cancel(wid)
    log = invariants.log_bytes(store, wid)
    workflow.cancel(wid)
    assert invariants.log_bytes(store, wid) == log
    with pytest.raises(errors.WorkflowNotResumableError, match="a canceled run cannot be resumed"):
        workflow.resume(wid)
    with pytest.raises(errors.WorkflowCancellationError):
        ray.get(workflow.get_output(wid))
    assert (wid, workflow.CANCELED) in workflow.list_all(workflow.CANCELED)
    marks.open("never")  # a step that was still running would commit now
    assert invariants.log_bytes(store, wid) == log
    workflow.delete(wid)
    with pytest.raises(errors.WorkflowNotFoundError):
        workflow.delete(wid)


@pytest.mark.parametrize(
    "status_filter",
    [
        pytest.param("SUCCESSFUL", id="a string"),
        pytest.param(workflow.WorkflowStatus.SUCCESSFUL, id="a status"),
        pytest.param({"SUCCESSFUL", "RUNNING"}, id="a set of strings"),
        pytest.param({workflow.WorkflowStatus.SUCCESSFUL}, id="a set"),
        pytest.param(["SUCCESSFUL"], id="a list"),
        pytest.param(None, id="all"),
    ],
)
def test_list_all_accepts_one_status_several_or_none(status_filter: Any, marks: Marks, wid: str) -> None:
    marks.open("held")
    held.step(marks).run(wid)
    assert (wid, workflow.SUCCESSFUL) in workflow.list_all(status_filter)
    assert wid not in dict(workflow.list_all({"RUNNING", "FAILED"}))
    assert workflow.list_all([]) == []


@pytest.mark.parametrize(
    ("bad", "kind"),
    [("DONE", ValueError), ({"RUNNING", "DONE"}, ValueError), (7, TypeError), ({7}, TypeError), ([None], TypeError)],
    ids=str,
)
def test_list_all_refuses_invalid_statuses(bad: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="a status is one of RUNNING, RESUMABLE"):
        workflow.list_all(bad)
