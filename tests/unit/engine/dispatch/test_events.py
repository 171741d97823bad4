"""Waits are handed to a host, and to the next one where it is lost; what was stopped is answered to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.fake_runner import returned
from tests.support.waiting import eventually
from workflow.engine.dispatch import events
from workflow.engine.dispatch.events import EventDispatcher
from workflow.engine.messages import RunAddress, StepResult, StepTask, TaskKey
from workflow.model.graph import Value

Answer = Callable[[StepResult | None], None]


@dataclass
class FakeHosts:
    """Hosts are numbers.

    Attributes:
        handed: host, step and how to answer, of all that was handed out.
        stopped: host and what was stopped there.
    """

    opened: int = 0
    handed: list[tuple[int, str, Answer]] = field(default_factory=list)
    stopped: list[tuple[int, Sequence[TaskKey]]] = field(default_factory=list)

    def open(self) -> int:
        self.opened += 1
        return self.opened

    def listen(self, host: int, task: Any, answer: Answer) -> None:
        self.handed.append((host, task.step_id, answer))

    def stop(self, host: int, waits: Sequence[TaskKey]) -> None:
        self.stopped.append((host, waits))

    def lose(self, host: int) -> None:
        """All that wait there are answered with nothing."""
        for at, _, answer in list(self.handed):
            if at == host:
                answer(None)

    @property
    def where(self) -> list[tuple[int, str]]:
        """Host and step of all that was handed out."""
        return [(host, step_id) for host, step_id, _ in self.handed]


class FakeRun:
    """Takes answers."""

    def __init__(self, run_uuid: str = "run") -> None:
        self.address = RunAddress("memory://", "w", 1, run_uuid)
        self.done: list[tuple[str, int, StepResult]] = []

    def step_done(self, step_id: str, number: int, result: StepResult) -> None:
        self.done.append((step_id, number, result))

    def task(self, step_id: str, number: int = 1) -> StepTask:
        return StepTask(self.address, step_id, "m.f", "", Value(b""), (), number, render=False, written_by="")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIRST_PAUSE", 0.0)


def begun(*step_ids: str) -> tuple[Any, FakeHosts, EventDispatcher]:
    run, hosts = FakeRun(), FakeHosts()
    waits = EventDispatcher(hosts)
    for step_id in step_ids:
        waits.start(run, run.task(step_id))  # type: ignore[arg-type]
    return run, hosts, waits


def test_one_host_serves_all_and_its_answers_reach_the_run() -> None:
    run, hosts, _ = begun("a", "b")
    assert hosts.where == [(1, "a"), (1, "b")]
    hosts.handed[1][2](returned("event"))
    assert run.done == [("b", 1, returned("event"))]


def test_no_host_is_made_before_it_is_needed() -> None:
    run, hosts, waits = begun()
    waits.cancel(run, ["a"])
    assert (hosts.opened, hosts.stopped) == (0, [])


def test_waits_of_a_lost_host_begin_anew_together_on_the_next_one() -> None:
    async def play() -> None:
        run, hosts, _ = begun("a", "b")
        hosts.lose(1)
        await eventually(lambda: hosts.where[2:] == [(2, "a"), (2, "b")])
        assert run.done == []
        hosts.handed[2][2](returned())
        assert [step_id for step_id, _, _ in run.done] == ["a"]

    asyncio.run(play())


def test_a_stopped_wait_neither_answers_nor_begins_anew() -> None:
    async def play() -> None:
        run, hosts, waits = begun("a", "b")
        waits.cancel(run, ["a", "unknown"])
        assert hosts.stopped == [(1, [("run", "a")])]
        hosts.handed[0][2](returned())
        assert run.done == []
        hosts.handed[1][2](None)
        await eventually(lambda: hosts.where[2:] == [(2, "b")])

    asyncio.run(play())


def test_the_host_of_a_stopped_wait_goes_on_with_the_others() -> None:
    """It answers with nothing for what was stopped, too."""
    run, hosts, waits = begun("a", "b")
    waits.cancel(run, ["a"])
    hosts.handed[0][2](None)
    waits.start(run, run.task("c"))
    assert hosts.where == [(1, "a"), (1, "b"), (1, "c")]


def test_the_answer_of_an_earlier_try_is_not_that_of_the_next_one() -> None:
    run, hosts, waits = begun("a")
    waits.cancel(run, ["a"])
    waits.start(run, run.task("a", number=2))
    hosts.handed[0][2](returned("old"))
    assert run.done == []
    hosts.handed[1][2](returned("new"))
    assert run.done == [("a", 2, returned("new"))]
