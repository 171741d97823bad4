"""`sleep` and `wait_for_event` on a real Ray: values, errors, kills, and the resources that waits use."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.drivers import ROOT, Tree, driver
from tests.support.marks import Marks
from tests.support.waiting import eventually, until
from workflow import WorkflowStatus
from workflow.engine.driver import discovery
from workflow.errors import InvalidInputError, WrongTypeError
from workflow.event_listener import EventListener, TimerListener
from workflow.model import records as r
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")

WAITS = 50


class Gate(EventListener):
    """Waits until a gate is open."""

    async def poll_for_event(self, marks: Marks, name: str) -> tuple[Marks, str]:
        marks.started(f"poll {name}")
        try:
            await eventually((Path(marks.folder) / f"gate-{name}").exists, timeout=300.0)
        except asyncio.CancelledError:
            marks.started(f"canceled {name}")
            raise
        return marks, name

    async def event_checkpointed(self, event: tuple[Marks, str]) -> None:
        marks, name = event
        marks.started(f"checkpointed {name}")
        await eventually((Path(marks.folder) / "gate-checkpoint").exists, timeout=300.0)


class Deadly(EventListener):
    """Kills its process once, after the other listener has started to wait in it."""

    async def poll_for_event(self, marks: Marks) -> str:
        await eventually(lambda: marks.starts()["poll paid"])
        marks.started("deadly")
        if marks.starts()["deadly"] == 1:
            os._exit(1)
        return "survived"


class Flaky(EventListener):
    """Raises in its first attempts."""

    async def poll_for_event(self, marks: Marks, failures: int) -> str:
        marks.started("poll")
        if marks.starts()["poll"] <= failures:
            raise ValueError("not today")
        return "at last"


@workflow.step
def name_of(event: tuple[Marks, str]) -> str:
    return event[1]


@workflow.step
def made(text: str) -> str:
    return text


@workflow.step
def joined(*parts: Any) -> list[Any]:
    return list(parts)


@pytest.fixture
def opened(marks: Marks) -> Marks:
    """Marks whose gate of `event_checkpointed` is open."""
    marks.open("checkpoint")
    return marks


def kill_the_manager(store: Store) -> None:
    manager = discovery.find(f"manager-{discovery.fingerprint(store.url)}")
    assert manager is not None
    ray.kill(manager, no_restart=False)


def written(store: Store, wid: str, kind: type[r.Record]) -> list[Any]:
    return [each.record for each in invariants.log_of(store, wid) if isinstance(each.record, kind)]


def epochs(store: Store, wid: str) -> int:
    return 1 + len(written(store, wid, r.Claimed))


def test_event_is_stored_before_event_checkpointed_is_called(opened: Marks, wid: str, store: Store) -> None:
    """The arguments of a wait may be outcomes of other steps."""
    waiting = name_of.step(workflow.wait_for_event(Gate, opened, name=made.step("paid"))).run_async(wid)
    opened.wait_started("poll paid")
    assert opened.starts()["checkpointed paid"] == 0
    opened.open("paid")
    assert ray.get(waiting) == "paid"
    assert opened.order() == ["poll paid", "checkpointed paid"]
    invariants.check(store, wid)


def test_timer_listener_returns_none(wid: str) -> None:
    assert workflow.wait_for_event(TimerListener, 0.0).run(wid) is None


@pytest.mark.parametrize(
    ("failures", "options", "expected"),
    [
        pytest.param(2, {"max_retries": 3}, "at last", id="retried"),
        pytest.param(0, {"catch_exceptions": True}, ("at last", None), id="nothing to catch"),
    ],
)
def test_wait_supports_retries_and_catch_exceptions(
    marks: Marks, wid: str, failures: int, options: dict[str, Any], expected: Any
) -> None:
    assert workflow.wait_for_event(Flaky, marks, failures).options(**options).run(wid) == expected
    assert marks.starts()["poll"] == failures + 1


def test_exception_of_a_listener_is_caught(marks: Marks, wid: str) -> None:
    value, error = workflow.wait_for_event(Flaky, marks, 9).options(catch_exceptions=True).run(wid)  # type: ignore[misc]
    assert value is None
    assert isinstance(error, ValueError)


def test_exception_of_a_listener_fails_the_run(marks: Marks, wid: str) -> None:
    with pytest.raises(ValueError, match="not today"):
        workflow.wait_for_event(Flaky, marks, 9).run(wid)
    assert workflow.get_status(wid) == WorkflowStatus.FAILED


def test_stored_event_is_not_polled_again_after_manager_death(marks: Marks, wid: str, store: Store) -> None:
    waiting = name_of.step(workflow.wait_for_event(Gate, marks, "paid")).run_async(wid)
    marks.wait_started("poll paid")
    kill_the_manager(store)
    marks.wait_started("poll paid", times=2)

    marks.open("paid")
    marks.wait_started("checkpointed paid")
    assert len(invariants.committed(store, wid)) == 1, "the event is stored before event_checkpointed is called"
    kill_the_manager(store)
    marks.wait_started("checkpointed paid", times=2)

    marks.open("checkpoint")
    assert ray.get(workflow.get_output(wid)) == "paid"
    assert marks.starts()["poll paid"] == 2
    del waiting  # it keeps the reference to the value until here
    invariants.check(store, wid)


def test_death_of_the_event_host_fails_no_wait(opened: Marks, wid: str, store: Store) -> None:
    other = name_of.step(workflow.wait_for_event(Gate, opened, "paid"))
    waiting = joined.step(other, workflow.wait_for_event(Deadly, opened)).run_async(wid)
    opened.wait_started("poll paid", times=2)
    opened.open("paid")
    assert ray.get(waiting) == ["paid", "survived"]
    assert epochs(store, wid) == 1
    assert not written(store, wid, r.StepFailed)
    invariants.check(store, wid)


def test_many_waits_use_no_cpu_and_block_no_step(opened: Marks, wid: str) -> None:
    waits = [workflow.wait_for_event(Gate, opened, f"e{number}") for number in range(WAITS)]
    run = joined.step(*[name_of.step(each) for each in waits], workflow.sleep(0.1)).run_async(wid)
    for number in range(WAITS):
        opened.wait_started(f"poll e{number}")
    assert made.step("meanwhile").run() == "meanwhile"
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])
    for number in range(WAITS):
        opened.open(f"e{number}")
    assert ray.get(run) == [*(f"e{number}" for number in range(WAITS)), None]


def test_cancel_stops_a_wait_and_a_sleep(marks: Marks, wid: str, store: Store) -> None:
    joined.step(workflow.wait_for_event(Gate, marks, "never"), workflow.sleep(86_400)).run_async(wid)
    marks.wait_started("poll never")
    until(lambda: written(store, wid, r.TimerSet))
    workflow.cancel(wid)
    marks.wait_started("canceled never")
    assert workflow.get_status(wid) == WorkflowStatus.CANCELED
    invariants.check(store, wid)


def test_sleep_returns_none_after_its_duration(wid: str, store: Store) -> None:
    assert workflow.sleep(0.5).run(wid) is None
    (slept,) = written(store, wid, r.StepCommitted)
    assert slept.ended - slept.started >= 0.5
    assert workflow.get_metadata(wid, "workflow.waits.sleep")["stats"]["start_time"] == slept.started


def test_sleep_continues_after_manager_death(wid: str, store: Store) -> None:
    waiting = joined.step(workflow.sleep(3.0)).run_async(wid)
    (timer,) = until(lambda: written(store, wid, r.TimerSet))
    kill_the_manager(store)
    until(lambda: epochs(store, wid) == 2)
    assert ray.get(workflow.get_output(wid)) == [None]
    assert written(store, wid, r.TimerSet) == [timer]
    slept = written(store, wid, r.StepCommitted)[0]
    assert slept.started == timer.at
    assert slept.ended >= timer.due
    del waiting  # it keeps the reference to the value until here
    invariants.check(store, wid)


def test_dynamic_step_may_return_waits(opened: Marks, wid: str, store: Store) -> None:
    opened.open("paid")

    @workflow.step(checkpoint=False)
    def waits(marks: Marks) -> Any:
        return joined.step(workflow.sleep(0.01), name_of.step(workflow.wait_for_event(Gate, marks, "paid")))

    assert joined.step(waits.step(opened)).run(wid) == [[None, "paid"]]
    invariants.check(store, wid)


class Blocking(EventListener):
    def poll_for_event(self) -> None:  # type: ignore[override]
        """Not `async def`."""


@pytest.mark.parametrize(
    ("listener", "why"),
    [
        pytest.param(dict, "a subclass of workflow.EventListener", id="another class"),
        pytest.param(TimerListener(), "a subclass of workflow.EventListener", id="an instance"),
        pytest.param(Blocking, "must be an `async def`", id="a plain method"),
    ],
)
def test_wait_for_event_refuses_invalid_listeners(listener: Any, why: str) -> None:
    with pytest.raises(WrongTypeError, match=why):
        workflow.wait_for_event(listener)


def test_waits_refuse_invalid_arguments_and_options() -> None:
    with pytest.raises(WrongTypeError, match=r"TimerListener\.poll_for_event\(.*\): too many"):
        workflow.wait_for_event(TimerListener, 1, 2)
    with pytest.raises(InvalidInputError, match="a wait has no option num_cpus"):
        workflow.sleep(1.0).options(num_cpus=1)
    with pytest.raises(InvalidInputError, match="finite"):
        workflow.sleep(float("inf"))
    with pytest.raises(WrongTypeError, match="a number of seconds"):
        workflow.sleep("1")  # type: ignore[arg-type]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The first example of docs/events.md as a script."""
    code, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "events.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "order.py"
    path.write_text(code)
    return path


def test_example_of_events_page_runs(example: Path, folder: Path, ray_outside: tuple[Tree, str]) -> None:
    where = {"RAYWORKFLOW_STORAGE": str(folder), "RAY_ADDRESS": ray_outside[1]}
    with driver(example, **where) as script:
        assert "shipped after the payment of order 7" in script.printed("shipped")
        assert script.ended() == 0
