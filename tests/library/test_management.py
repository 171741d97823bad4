"""Management calls: list_all, get_status, get_output, cancel, delete, used ids and unusual ids."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow import WorkflowStatus
from workflow.engine.worker import context
from workflow.errors import (
    InvalidInputError,
    WorkflowCancellationError,
    WorkflowConflictError,
    WorkflowInUseError,
    WorkflowNotFoundError,
)
from workflow.reading import read_run
from workflow.store import Store, open_store

pytestmark = pytest.mark.usefixtures("storage")
S = WorkflowStatus


@workflow.step
def one() -> int:
    return 1


@workflow.step
def plus(value: int, more: int = 1) -> int:
    return value + more


@workflow.step
def held(marks: Marks, name: str = "held") -> str:
    marks.started(name)
    marks.pass_gate(name)
    return name


@workflow.step
def fails() -> None:
    raise ValueError("no luck")


# --- used ids ---


def test_run_of_a_finished_workflow_returns_the_stored_value(marks: Marks, wid: str, store: Store) -> None:
    marks.open("held")
    assert held.step(marks).run(wid) == "held"
    before = {info.key for info in store.list("")}
    assert held.step(marks).run(wid) == "held"
    assert ray.get(held.step(marks).run_async(wid)) == "held"
    assert marks.starts() == {"held": 1}
    assert {info.key for info in store.list("workflows/")} <= before


def test_run_of_a_running_workflow_waits_for_it(marks: Marks, wid: str) -> None:
    first = held.step(marks).run_async(wid)
    marks.wait_started("held")
    second = held.step(marks).run_async(wid)
    assert workflow.get_status(wid) is S.RUNNING
    marks.open("held")
    assert ray.get([first, second]) == ["held", "held"]
    assert marks.starts() == {"held": 1}


def test_another_dag_under_a_used_id_is_refused(wid: str) -> None:
    plus.step(one.step()).run(wid)
    with pytest.raises(
        WorkflowConflictError, match=f"{wid}.*is used by another DAG.*give another workflow_id, or delete"
    ):
        one.step().run(wid)


def test_refusal_names_the_first_step_that_differs(wid: str) -> None:
    plus.step(one.step()).run(wid)
    here = re.escape(__name__)
    with pytest.raises(WorkflowConflictError, match=rf"another DAG: only the stored one has step '{here}\.plus'"):
        one.step().run(wid)
    with pytest.raises(WorkflowConflictError, match=rf"another DAG: only the stored one has step '{here}\.one'"):
        plus.step(1).run(wid)


def test_other_arguments_count_as_the_same_dag(wid: str) -> None:
    assert plus.step(one.step(), more=1).run(wid) == 2
    assert plus.step(one.step(), more=5).run(wid) == 2


def test_resume_of_a_run_of_this_manager_waits_for_it(marks: Marks, wid: str) -> None:
    reference = held.step(marks).run_async(wid)
    assert workflow.resume(wid) is not None  # the same manager owns the run, so the call only waits
    marks.open("held")
    assert ray.get(reference) == "held"


@pytest.mark.parametrize(
    "workflow_id",
    ["with space", "a/b/../c", "Ünïcode 日本", "x" * 400, "ns.name.uid", "%2F", "#1"],
    ids=lambda t: t[:12],
)
def test_any_text_can_be_a_workflow_id(workflow_id: str) -> None:
    assert one.step().run(workflow_id) == 1
    assert workflow.get_status(workflow_id) is S.SUCCESSFUL
    assert (workflow_id, S.SUCCESSFUL) in workflow.list_all()
    workflow.delete(workflow_id)


@pytest.mark.parametrize("workflow_id", ["", ".", ".."])
def test_invalid_workflow_id_is_refused(workflow_id: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be a workflow id"):
        one.step().run(workflow_id)


# --- reading ---


def test_list_all_returns_each_workflow_with_its_status(marks: Marks, wid: str) -> None:
    one.step().run(f"{wid}-successful")
    with pytest.raises(ValueError, match="no luck"):
        fails.step().run(f"{wid}-failed")
    reference = held.step(marks).run_async(f"{wid}-running")
    mine = {each: status for each, status in workflow.list_all() if each.startswith(wid)}
    assert mine == {f"{wid}-successful": S.SUCCESSFUL, f"{wid}-failed": S.FAILED, f"{wid}-running": S.RUNNING}
    assert (f"{wid}-running", S.RUNNING) in workflow.list_all("RUNNING")
    assert f"{wid}-successful" not in dict(workflow.list_all([S.RUNNING, S.FAILED]))
    with pytest.raises(InvalidInputError, match="a status is one of RUNNING, RESUMABLE"):
        workflow.list_all("DONE")
    marks.open("held")
    ray.get(reference)
    assert dict(workflow.list_all())[f"{wid}-running"] is S.SUCCESSFUL


def test_get_output_returns_value_of_workflow_or_step(wid: str) -> None:
    plus.options(name="total").step(one.options(name="first").step(), 41).run(wid)
    assert ray.get(workflow.get_output(wid)) == 42
    assert ray.get(workflow.get_output(wid, name="first")) == 1
    assert ray.get(workflow.get_output(wid, name="total")) == 42
    with pytest.raises(WorkflowNotFoundError, match=r"has no step 'unknown'; it has first, total"):
        ray.get(workflow.get_output(wid, name="unknown"))


def test_get_output_of_a_committed_step_returns_at_once(marks: Marks, wid: str) -> None:
    @workflow.step
    def join(values: list[Any]) -> Any:
        return values

    reference = join.step([one.options(name="quick").step(), held.step(marks)]).run_async(wid)
    until(lambda: (view := read_run(_store(), wid)) is not None and view.counts.succeeded == 1)
    assert ray.get(workflow.get_output(wid, name="quick")) == 1
    marks.open("held")
    assert ray.get(reference) == [1, "held"]


def test_get_output_of_a_step_waits_for_that_step_only(marks: Marks, wid: str) -> None:
    @workflow.step
    def opens(marks: Marks, name: str) -> str:
        marks.started("opens")
        return name

    @workflow.step
    def join(values: list[Any]) -> Any:
        return values

    @ray.remote
    def get() -> Any:
        marks.started("reading")
        return ray.get(workflow.get_output(wid, name="second"))

    second = opens.options(name="second").step(marks, held.step(marks, "a"))
    reference = join.step([second, held.step(marks, "b")]).run_async(wid)
    marks.wait_started("b")
    output = get.remote()
    marks.wait_started("reading")
    marks.open("a")
    assert ray.get(output) == "a"
    assert workflow.get_status(wid) is S.RUNNING
    marks.open("b")
    assert ray.get(reference) == ["a", "b"]


def test_get_output_of_a_step_raises_the_workflows_error(wid: str) -> None:
    @workflow.step
    def after(value: Any) -> Any:
        return value

    with pytest.raises(ValueError, match="no luck"):
        after.options(name="after").step(fails.step()).run(wid)
    with pytest.raises(ValueError, match="no luck"):
        ray.get(workflow.get_output(wid, name="after"))


def _store() -> Store:
    return open_store(context.store_url())


@pytest.mark.parametrize(
    "call", [workflow.get_status, workflow.get_output, workflow.resume, workflow.cancel, workflow.delete]
)
def test_unknown_id_is_not_found_and_writes_nothing(call: Any, store: Store) -> None:
    before = [info.key for info in store.list("workflows/")]
    with pytest.raises(WorkflowNotFoundError, match="no workflow 'unknown' is stored at"):
        call("unknown")
    assert [info.key for info in store.list("workflows/")] == before


def test_metadata_must_be_json(wid: str) -> None:
    with pytest.raises(InvalidInputError, match="metadata must be a dict of JSON values"):
        one.step().run(wid, metadata={"x": object()})
    one.step().run(wid, metadata={"owner": "me"})
    view = read_run(_store(), wid)
    assert view is not None
    assert view.metadata == '{"owner": "me"}'


# --- cancel ---


def test_cancel_stops_running_steps_and_is_final(marks: Marks, wid: str, store: Store) -> None:
    @workflow.step
    def ticks(marks: Marks) -> None:
        marks.started(f"pid {os.getpid()}")
        marks.pass_gate("never")

    reference = plus.step(ticks.step(marks)).run_async(wid)
    until(marks.order)
    pid = int(marks.order()[0].split()[1])
    workflow.cancel(wid)
    assert workflow.get_status(wid) is S.CANCELED
    with pytest.raises(WorkflowCancellationError):
        ray.get(reference)
    until(lambda: not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text())
    with pytest.raises(WorkflowCancellationError, match="was canceled"):
        plus.step(ticks.step(marks)).run(wid)
    with pytest.raises(WorkflowConflictError, match="a canceled run cannot be resumed"):
        ray.get(workflow.resume(wid))
    assert len(marks.order()) == 1
    assert not list(store.list("notifications/"))
    invariants.check(store, wid)


def test_cancel_of_a_finished_workflow_is_refused(wid: str) -> None:
    one.step().run(wid)
    with pytest.raises(WorkflowConflictError, match=r"cannot cancel .* ended with status SUCCESSFUL"):
        workflow.cancel(wid)


# --- delete ---


def test_delete_frees_the_id_and_keeps_registry_entries(wid: str, store: Store) -> None:
    one.step().run(wid)
    workflow.delete(wid)
    with pytest.raises(WorkflowNotFoundError):
        workflow.get_status(wid)
    assert [info.key.split("/")[2] for info in store.list(f"workflows/{wid}/")] == ["registry", "registry"]
    assert wid not in dict(workflow.list_all())
    assert plus.step(one.step()).run(wid) == 2
    assert ray.get(workflow.get_output(wid)) == 2


def test_delete_of_a_running_workflow_is_refused(marks: Marks, wid: str) -> None:
    reference = held.step(marks).run_async(wid)
    marks.wait_started("held")
    with pytest.raises((WorkflowConflictError, WorkflowInUseError), match=r"cannot delete .* call workflow.cancel"):
        workflow.delete(wid)
    marks.open("held")
    assert ray.get(reference) == "held"


def test_public_names_are_sorted_and_available() -> None:
    assert sorted(workflow.__all__) == workflow.__all__
    assert dir(workflow) == workflow.__all__
    for name in workflow.__all__:
        assert getattr(workflow, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'; it has EventListener, Workflow"):
        workflow.nonsense  # noqa: B018
