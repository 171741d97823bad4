"""Programs in the style of Ray 1.12 run after a change of one import, and their results are those of Ray 1.12."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import ray

import workflow
from tests.support.marks import Marks
from workflow.common import Event, Workflow, WorkflowNotFoundError, WorkflowRunningError
from workflow.event_listener import EventListener, TimerListener
from workflow.recovery import WorkflowNotResumableError

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def double(value: int, fails: bool = False) -> int:
    if fails:
        raise ValueError("no luck")
    return 2 * value


@workflow.step
def needs_file(path: str, marks: Marks) -> int:
    marks.started("needs_file")
    return int(Path(path).read_text())


def test_failed_workflow_fails_until_it_is_resumed(wid: str, marks: Marks, tmp_path: Path) -> None:
    path = tmp_path / "value"
    with pytest.raises(FileNotFoundError):
        needs_file.step(str(path), marks).run(wid)
    path.write_text("10")
    with pytest.raises(FileNotFoundError):
        ray.get(workflow.get_output(wid))
    assert marks.starts() == {"needs_file": 1}
    assert workflow.get_status(wid) == workflow.FAILED
    assert ray.get(workflow.resume(wid)) == 10
    assert ray.get(workflow.resume(wid)) == 10
    assert marks.starts() == {"needs_file": 2}


def test_script_that_runs_again_continues_a_failed_workflow(wid: str, marks: Marks, tmp_path: Path) -> None:
    path = tmp_path / "value"

    def script() -> Any:
        return double.step(needs_file.step(str(path), marks)).run(workflow_id=wid)

    with pytest.raises(FileNotFoundError):
        script()
    path.write_text("10")
    assert script() == 20
    path.unlink()
    assert script() == 20
    assert marks.starts() == {"needs_file": 2}


def test_resume_all_returns_pairs_of_id_and_reference(wid: str, marks: Marks, tmp_path: Path) -> None:
    path = tmp_path / "value"
    ids = [f"{wid}-{n}" for n in range(3)]
    for each in ids:
        with pytest.raises(FileNotFoundError):
            ray.get(needs_file.step(str(path), marks).run_async(each))
    path.write_text("10")
    workflow.delete(ids[2])
    resumed = workflow.resume_all(include_failed=True)
    mine = [(each, reference) for each, reference in resumed if each.startswith(wid)]
    assert [each for each, _ in mine] == ids[:2]
    assert [ray.get(reference) for _, reference in mine] == [10, 10]


def test_outputs_are_requested_before_steps_exist(wid: str, marks: Marks) -> None:
    @workflow.step
    def countdown(n: int, marks: Marks) -> Any:
        if n == 0:
            marks.pass_gate("end")
            return 42
        return countdown.options(name=str(n - 1)).step(n - 1, marks)

    result = countdown.options(name="3").step(3, marks).run_async(wid)
    outputs = [workflow.get_output(wid, name=str(n)) for n in range(4)]
    assert not ray.wait([*outputs, result], timeout=0.5)[0]
    marks.open("end")
    assert ray.get([*outputs, result]) == [42] * 5


def test_reference_is_passed_to_ray_tasks_and_steps(wid: str) -> None:
    double.options(name="inner").step(4).run(wid)

    @ray.remote
    def plus_one(value: int) -> int:
        return value + 1

    output, of_step = workflow.get_output(wid), workflow.get_output(wid, name="inner")
    assert ray.get([plus_one.remote(output), plus_one.remote(of_step)]) == [9, 9]
    assert double.step(output).run() == 16


@pytest.mark.parametrize("how", ["workflow", "step", "resumed"])
def test_error_of_a_reference_is_caught_by_its_class(wid: str, how: str) -> None:
    with pytest.raises(ValueError, match="no luck"):
        double.options(name="only").step(1, fails=True).run(wid)
    references = {
        "workflow": lambda: workflow.get_output(wid),
        "step": lambda: workflow.get_output(wid, name="only"),
        "resumed": lambda: workflow.resume(wid),
    }
    reference = references[how]()
    try:
        ray.get(reference)
    except ValueError as error:
        caught: Exception = error
    assert isinstance(caught, ray.exceptions.RayError)

    @ray.remote
    def uses(value: int) -> int:
        return value

    with pytest.raises(ValueError, match="no luck"):
        ray.get(uses.remote(reference))


def test_missing_workflows_are_reported_by_the_call(wid: str) -> None:
    for call in (workflow.resume, workflow.get_output, workflow.get_metadata):
        with pytest.raises(ValueError, match=wid):
            call(wid)
    for call in (workflow.get_status, workflow.delete):
        with pytest.raises(WorkflowNotFoundError) as caught:
            call(wid)
        assert wid in caught.value.message


def test_running_and_canceled_workflows_are_refused(wid: str, marks: Marks) -> None:
    @workflow.step
    def held(marks: Marks) -> None:
        marks.started("held")
        marks.pass_gate("never")

    held.step(marks).run_async(workflow_id=wid)
    marks.wait_started("held")
    assert workflow.get_status(wid) == "RUNNING"
    assert (wid, workflow.RUNNING) in workflow.list_all()
    with pytest.raises(WorkflowRunningError):
        workflow.delete(wid)
    workflow.cancel(workflow_id=wid)
    assert (wid, workflow.CANCELED) in workflow.list_all("CANCELED")
    with pytest.raises(WorkflowNotResumableError):
        ray.get(workflow.resume(wid))
    workflow.delete(wid)
    assert wid not in dict(workflow.list_all())


def test_default_names_are_numbered_through_the_run(wid: str) -> None:
    @workflow.step
    def factorial(n: int, product: int = 1) -> Any:
        return product if n == 1 else factorial.step(n - 1, product * n)

    assert factorial.step(4).run(wid) == math.factorial(4)
    name = f"{__name__}.test_default_names_are_numbered_through_the_run.locals.factorial"
    names = [name, *(f"{name}_{n}" for n in range(1, 4))]
    assert ray.get([workflow.get_output(wid, name=each) for each in names]) == [24] * 4
    assert workflow.get_metadata(wid, f"{name}_3")["name"] == name


def test_outer_step_has_the_name_and_the_inner_one_a_number(wid: str) -> None:
    same = double.options(name="f")
    assert same.step(same.step(5)).run(wid) == 20
    assert ray.get([workflow.get_output(wid, name="f"), workflow.get_output(wid, "f_1")]) == [20, 10]


def test_catching_dynamic_steps_return_one_pair() -> None:
    @workflow.step(catch_exceptions=True)
    def countdown(n: int, fails: bool) -> Any:
        return countdown.step(n - 1, fails) if n else double.step(1, fails)

    assert countdown.step(2, False).run() == (2, None)
    value, error = countdown.step(2, True).run()
    assert value is None
    assert isinstance(error, ValueError)


def test_metadata_has_the_keys_of_ray(wid: str) -> None:
    trip: Workflow[int] = double.options(name="trip", metadata={"k1": "v1"}).step(1)
    trip.run(workflow_id=wid, metadata={"k2": "v2"})
    of_run, of_step = workflow.get_metadata(wid), workflow.get_metadata(wid, "trip")
    assert set(of_run) == {"status", "user_metadata", "stats"}
    assert (of_run["status"], of_run["user_metadata"]) == ("SUCCESSFUL", {"k2": "v2"})
    keys_of_ray = {"name", "workflows", "workflow_refs", "step_options", "user_metadata", "stats"}
    assert set(of_step) == keys_of_ray | {"attempts", "last_error", "waiting_for"}
    assert of_step["step_options"]["step_type"] == "FUNCTION"
    assert of_step["user_metadata"] == {"k1": "v1"}
    for stats in (of_run["stats"], of_step["stats"]):
        assert stats["start_time"] <= stats["end_time"]
    assert json.loads(json.dumps(of_run)) == of_run


def test_events_and_timers_are_steps(wid: str) -> None:
    class Listener(EventListener):
        def __init__(self) -> None:
            self.created = True

        async def poll_for_event(self, topic: str) -> Event:
            return topic if self.created else None

        async def event_checkpointed(self, event: Event) -> None:
            assert event == "orders"

    @workflow.step
    def gather(*events: Event) -> list[Event]:
        return list(events)

    timer = workflow.wait_for_event(workflow.event_listener.TimerListener, time.time() + 0.1)
    assert TimerListener is workflow.event_listener.TimerListener
    event = workflow.wait_for_event(Listener, "orders")
    assert gather.step(timer, event, workflow.sleep(0.1)).run(wid) == [None, "orders", None]
