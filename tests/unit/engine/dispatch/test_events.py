"""Waits of event listeners are started on a host, and on a new host if it is lost. Stopped waits report no result."""

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
from workflow.engine.retry import Backoff
from workflow.model.graph import Value

Answer = Callable[[StepResult | None], None]


@dataclass
class FakeHosts:
    """Hosts that are numbers.

    Attributes:
        opened: number of hosts created.
        started: host, step id and answer function of each wait that was started.
        stopped: host and waits of each call of `stop`.
    """

    opened: int = 0
    started: list[tuple[int, str, Answer]] = field(default_factory=list)
    stopped: list[tuple[int, Sequence[TaskKey]]] = field(default_factory=list)

    def open(self) -> int:
        self.opened += 1
        return self.opened

    def listen(self, host: int, task: Any, answer: Answer) -> None:
        self.started.append((host, task.step_id, answer))

    def stop(self, host: int, waits: Sequence[TaskKey]) -> None:
        self.stopped.append((host, waits))

    def answer(self, index: int, result: StepResult | None) -> None:
        """Answer the wait that was started as number `index`."""
        self.started[index][2](result)

    def lose(self, host: int) -> None:
        """Answer every wait on a host with None."""
        for index, (at, _, _) in enumerate(list(self.started)):
            if at == host:
                self.answer(index, None)

    @property
    def waits(self) -> list[tuple[int, str]]:
        """Host and step id of each wait that was started."""
        return [(host, step_id) for host, step_id, _ in self.started]


class FakeRun:
    """A run loop that records results."""

    def __init__(self, run_uuid: str = "run") -> None:
        self.address = RunAddress("memory://", "w", 1, run_uuid)
        self.results: list[tuple[str, int, StepResult]] = []

    def step_done(self, step_id: str, attempt: int, result: StepResult) -> None:
        self.results.append((step_id, attempt, result))

    def task(self, step_id: str, attempt: int = 1) -> StepTask:
        return StepTask(self.address, step_id, "m.f", "", Value(b""), (), attempt, render=False, written_by="")


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HOST_BACKOFF", Backoff(0.0, 0.0))


def started(*step_ids: str) -> tuple[Any, FakeHosts, EventDispatcher]:
    """Return a run, its hosts and a dispatcher that started attempts of these steps."""
    run, hosts = FakeRun(), FakeHosts()
    dispatcher = EventDispatcher(hosts)
    for step_id in step_ids:
        dispatcher.start(run, run.task(step_id))  # type: ignore[arg-type]
    return run, hosts, dispatcher


def test_one_host_serves_all_waits_and_the_run_gets_results() -> None:
    run, hosts, _ = started("a", "b")
    assert hosts.waits == [(1, "a"), (1, "b")]
    hosts.answer(1, returned("event"))
    assert run.results == [("b", 1, returned("event"))]


def test_no_host_is_created_before_it_is_needed() -> None:
    run, hosts, dispatcher = started()
    dispatcher.cancel(run, ["a"])
    assert (hosts.opened, hosts.stopped) == (0, [])


def test_waits_of_a_lost_host_are_started_on_the_next_one() -> None:
    async def play() -> None:
        run, hosts, _ = started("a", "b")
        hosts.lose(1)
        await eventually(lambda: hosts.waits[2:] == [(2, "a"), (2, "b")])
        assert run.results == []
        hosts.answer(2, returned())
        assert [step_id for step_id, _, _ in run.results] == ["a"]

    asyncio.run(play())


def test_stopped_wait_has_no_result_and_is_not_started_again() -> None:
    async def play() -> None:
        run, hosts, dispatcher = started("a", "b")
        dispatcher.cancel(run, ["a", "unknown"])
        assert hosts.stopped == [(1, [("run", "a")])]
        hosts.answer(0, returned())
        assert run.results == []
        hosts.answer(1, None)
        await eventually(lambda: hosts.waits[2:] == [(2, "b")])

    asyncio.run(play())


def test_host_of_a_stopped_wait_keeps_the_other_waits() -> None:
    """A host answers a stopped wait with None, like a lost host."""
    run, hosts, dispatcher = started("a", "b")
    dispatcher.cancel(run, ["a"])
    hosts.answer(0, None)
    dispatcher.start(run, run.task("c"))
    assert hosts.waits == [(1, "a"), (1, "b"), (1, "c")]


def test_result_of_an_earlier_attempt_is_ignored() -> None:
    run, hosts, dispatcher = started("a")
    dispatcher.cancel(run, ["a"])
    dispatcher.start(run, run.task("a", attempt=2))
    hosts.answer(0, returned("old"))
    assert run.results == []
    hosts.answer(1, returned("new"))
    assert run.results == [("a", 2, returned("new"))]
