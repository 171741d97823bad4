"""More management calls: get_metadata, get_output, list_all and resume_all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

import workflow
from tests.support import runs
from tests.support.marks import Marks
from workflow.errors import CorruptLogError, WorkflowNotFoundError
from workflow.log import index, registry
from workflow.log.run_log import RunLog
from workflow.model.status import WorkflowStatus
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def held(marks: Marks, name: str) -> str:
    marks.started(name)
    marks.pass_gate(name)
    return name


@workflow.step
def fails_once(marks: Marks, name: str) -> str:
    marks.started(name)
    if marks.starts()[name] == 1:
        raise ValueError("no luck")
    return name


@workflow.step
def twice(value: str) -> str:
    return value * 2


# --- metadata ---


def test_metadata_of_a_workflow_and_of_a_step(wid: str, marks: Marks) -> None:
    marks.open("a")
    first = held.options(name="first", metadata={"k1": "v1"}, num_cpus=0.5, max_retries=2).step(marks, "a")
    twice.options(name="second").step(first).run(wid, metadata={"k2": [1, None]})

    of_run = workflow.get_metadata(wid)
    assert of_run["status"] == "SUCCESSFUL"
    assert of_run["user_metadata"] == {"k2": [1, None]}
    of_first = workflow.get_metadata(wid, "first")
    assert of_first["name"] == "first"
    assert of_first["user_metadata"] == {"k1": "v1"}
    assert of_first["step_options"] == {
        "step_type": "FUNCTION",
        "max_retries": 2,
        "catch_exceptions": False,
        "allow_inplace": False,
        "checkpoint": True,
        "ray_options": {"num_cpus": 0.5},
    }
    of_second = workflow.get_metadata(wid, name="second")
    assert of_second["user_metadata"] == {}
    times = [of_run["stats"], of_first["stats"], of_second["stats"]]
    assert (
        times[0]["start_time"]
        < times[1]["start_time"]
        <= times[1]["end_time"]
        <= times[2]["start_time"]
        <= times[2]["end_time"]
        <= times[0]["end_time"]
    )


def test_metadata_has_no_end_time_if_running_or_canceled(wid: str, marks: Marks) -> None:
    held.options(name="step").step(marks, "never").run_async(wid)
    marks.wait_started("never")
    assert workflow.get_metadata(wid)["status"] == "RUNNING"
    assert set(workflow.get_metadata(wid)["stats"]) == {"start_time"}
    assert set(workflow.get_metadata(wid, "step")["stats"]) == {"start_time"}
    workflow.cancel(wid)
    assert workflow.get_metadata(wid)["status"] == "CANCELED"
    assert set(workflow.get_metadata(wid)["stats"]) == {"start_time"}


def test_metadata_of_a_resumed_workflow_has_the_later_times(wid: str, marks: Marks) -> None:
    with pytest.raises(ValueError, match="no luck"):
        fails_once.step(marks, "a").run(wid)
    failed = workflow.get_metadata(wid)
    assert failed["status"] == "FAILED"
    assert ray.get(workflow.resume(wid)) == "a"
    resumed = workflow.get_metadata(wid)
    assert resumed["status"] == "SUCCESSFUL"
    assert resumed["stats"]["start_time"] > failed["stats"]["end_time"] > failed["stats"]["start_time"]


def test_metadata_of_a_dynamic_step_and_its_inner_step(wid: str, marks: Marks) -> None:
    @workflow.step(name="outer", metadata={"o": 1})
    def outer() -> Any:
        return twice.options(name="inner", metadata={"i": 2}).step("a")

    assert outer.step().run(wid) == "aa"
    of_outer, of_inner = workflow.get_metadata(wid, "outer"), workflow.get_metadata(wid, "inner")
    assert (of_outer["user_metadata"], of_inner["user_metadata"]) == ({"o": 1}, {"i": 2})
    assert of_inner["stats"]["start_time"] >= of_outer["stats"]["end_time"]


def test_metadata_of_a_step_lists_its_parents(wid: str) -> None:
    @workflow.step
    def joined(*values: Any, last: Any = None) -> str:
        return "".join(values[0]) + last

    @workflow.step(name="outer")
    def outer(value: str) -> Any:
        return twice.options(name="output").step(twice.options(name="inner").step(value))

    first, second = (twice.options(name=name).step(name[0]) for name in ("first", "second"))
    last = joined.options(name="joined").step([second, first, second], last=outer.step(first))
    assert last.run(wid) == "ssffss" + 8 * "f"
    takes = {
        "first": [],
        "second": [],
        "outer": ["first"],
        "outer/inner": [],
        "outer/output": ["outer/inner"],
        "joined": ["second", "first", "outer"],
    }
    assert {step_id: workflow.get_metadata(wid, step_id)["workflows"] for step_id in takes} == takes


def test_metadata_of_an_unknown_workflow_or_step_is_not_found(wid: str) -> None:
    twice.step("a").run(wid)
    with pytest.raises(WorkflowNotFoundError, match="no workflow"):
        workflow.get_metadata(f"not-{wid}")
    with pytest.raises(WorkflowNotFoundError, match="no workflow"):
        workflow.get_metadata(f"not-{wid}", "twice")
    with pytest.raises(WorkflowNotFoundError, match="has no step 'thrice'; it has"):
        workflow.get_metadata(wid, "thrice")


# --- get_output ---


def test_get_output_returns_a_reference_at_once(wid: str, marks: Marks) -> None:
    twice.step(held.options(name="first").step(marks, "a")).run_async(wid)
    whole, first = workflow.get_output(wid), workflow.get_output(wid, name="first")
    assert not ray.wait([whole, first], timeout=0)[0]
    marks.open("a")
    assert ray.get([whole, first]) == ["aa", "a"]


def test_reference_raises_the_workflows_error(wid: str, marks: Marks) -> None:
    with pytest.raises(ValueError, match="no luck"):
        fails_once.options(name="only").step(marks, "a").run(wid)
    with pytest.raises(ValueError, match="no luck"):
        ray.get(workflow.get_output(wid))
    with pytest.raises(ValueError, match="no luck"):
        ray.get(workflow.get_output(wid, name="only"))
    with pytest.raises(WorkflowNotFoundError):
        workflow.get_output(f"not-{wid}")


# --- list_all ---


def listed(wid: str, *statuses: str) -> dict[str, str]:
    """Return the entries of `list_all` for the workflows of one test."""
    found = [(each, str(status)) for each, status in workflow.list_all(statuses or None) if each.startswith(wid)]
    assert len(dict(found)) == len(found), "each workflow is listed once"
    return dict(found)


@pytest.fixture
def damaged(wid: str, store: Store) -> Iterator[str]:
    """The id of a workflow with a damaged log and an index entry for RUNNING."""
    created = runs.created(runs.graph("a"), f"{wid}-damaged")
    index.set_status(store, created.workflow_id, WorkflowStatus.RUNNING, replaces=())
    registry.register(store, created)
    store.create(RunLog(store, created).paths.segment(1), b"torn", "put-1")
    yield created.workflow_id
    index.remove(store, created.workflow_id)


def test_damaged_workflow_is_left_out_of_list_and_resume_all(
    wid: str, marks: Marks, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="no luck"):
        fails_once.step(marks, "a").run(wid)
    assert listed(wid) == {wid: "FAILED"}
    (logged,) = (record for record in caplog.records if damaged in record.getMessage())
    assert (logged.levelname, "log/00000000000000000001" in logged.getMessage()) == ("ERROR", True)
    with pytest.raises(CorruptLogError, match="log/00000000000000000001"):
        workflow.get_status(damaged)
    assert ray.get(dict(workflow.resume_all(include_failed=True))[wid]) == "a"


def test_conflicting_index_entries_are_resolved_from_the_log(wid: str, marks: Marks, store: Store) -> None:
    twice.step("a").run(f"{wid}-successful")
    held.step(marks, "held").run_async(f"{wid}-running")
    marks.wait_started("held")
    twice.step("a").run(f"{wid}-deleted")
    workflow.delete(f"{wid}-deleted")
    for name in ("successful", "running", "deleted"):
        index.set_status(store, f"{wid}-{name}", WorkflowStatus.FAILED, replaces=())
    index.set_status(store, f"{wid}-deleted", WorkflowStatus.CANCELED, replaces=())
    assert listed(wid) == {f"{wid}-successful": "SUCCESSFUL", f"{wid}-running": "RUNNING"}
    assert listed(wid, "FAILED", "CANCELED") == {}
    assert listed(wid, "SUCCESSFUL") == {f"{wid}-successful": "SUCCESSFUL"}
    assert listed(wid, "RUNNING") == {f"{wid}-running": "RUNNING"}
    marks.open("held")


# --- resume_all ---


def test_resume_all_resumes_failed_workflows_on_request(wid: str, marks: Marks) -> None:
    for name in ("a", "b"):
        with pytest.raises(ValueError, match="no luck"):
            fails_once.step(marks, name).run(f"{wid}-{name}")
    assert not [each for each, _ in workflow.resume_all() if each.startswith(wid)]
    resumed = dict(workflow.resume_all(include_failed=True))
    assert ray.get([resumed[f"{wid}-a"], resumed[f"{wid}-b"]]) == ["a", "b"]
    assert marks.starts() == {"a": 2, "b": 2}
