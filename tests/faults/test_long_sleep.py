"""A sleep of 24 hours with manager restarts and clock changes. The test controls the clock."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import invariants, runs
from tests.support.history import Expected
from tests.support.managers import ManagerFixture, start_run, with_timeout
from tests.support.waiting import eventually
from workflow.engine.owner import run_loop
from workflow.engine.owner.manager import Manager
from workflow.engine.owner.runtime import Runtime
from workflow.log import segments
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.graph import Graph
from workflow.model.records import Created
from workflow.model.status import WorkflowStatus

HOUR = 3_600.0
LONG = 60.0
"""Seconds. A longer timer is the timer of the sleep."""
NIGHT = runs.sleeper("night", 24 * HOUR)
DAG = Graph((NIGHT, *runs.graph("night morning:night").steps[1:]), "morning")
DAG_WITH_SECOND_STEP = Graph((NIGHT, *runs.graph("night evening morning:night,evening").steps[1:]), "morning")
"""A DAG with a step that ends during the sleep, so that a snapshot is written during the sleep."""
ORACLE = b"morning"


class ControlledLoop(asyncio.SelectorEventLoop):
    """An event loop and the clock of its managers. The test decides when hours pass and when the clock is set."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.clock_start = 1_700_000_000.0
        self.timers = 0
        super().__init__()

    def time(self) -> float:
        return super().time() + self.elapsed

    def call_later(  # type: ignore[override]  # the signature is less precise; all arguments are passed on
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> TimerHandle:
        self.timers += delay > LONG
        return super().call_later(delay, callback, *args, context=context)

    def now(self) -> float:
        return self.clock_start + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed


@dataclass(frozen=True)
class TimePasses:
    """Time passes while the manager runs."""

    hours: float


@dataclass(frozen=True)
class ClockJumps:
    """The clock is set forward or back."""

    hours: float


@dataclass(frozen=True)
class ManagerDies:
    """The manager dies. The next manager starts hours later, and the clock may be set in between."""

    hours: float = 0.0
    jumps: float = 0.0


Event = TimePasses | ClockJumps | ManagerDies
CASES: dict[str, list[Event]] = {
    "one manager": [TimePasses(23.9), TimePasses(0.1)],
    "the clock jumps forward": [TimePasses(1), ClockJumps(100), TimePasses(22), TimePasses(1)],
    "the clock jumps back": [TimePasses(1), ClockJumps(-100), TimePasses(22), TimePasses(1)],
    "four managers": [
        TimePasses(6),
        ManagerDies(),
        TimePasses(6),
        ManagerDies(),
        TimePasses(6),
        ManagerDies(),
        TimePasses(5),
        TimePasses(1),
    ],
    "the sleep continues without a manager": [TimePasses(6), ManagerDies(hours=10), TimePasses(7), TimePasses(1)],
    "the sleep is due before the next manager starts": [TimePasses(6), ManagerDies(hours=30)],
    "forward without a manager": [TimePasses(6), ManagerDies(jumps=10), TimePasses(7), TimePasses(1)],
    "forward past the due time without a manager": [TimePasses(6), ManagerDies(jumps=20)],
    "back without a manager, at most the whole sleep again": [
        TimePasses(6),
        ManagerDies(hours=1, jumps=-100),
        TimePasses(23),
        TimePasses(1),
    ],
    "back and forward": [
        ManagerDies(jumps=-5),
        TimePasses(2),
        ClockJumps(7),
        ManagerDies(jumps=5),
        TimePasses(14),
        TimePasses(1),
    ],
}


class LongSleep:
    """One run with a sleep, and its managers.

    Args:
        loop: the loop and clock of the managers.
        dag: the DAG of the run.
        from_snapshots: a new manager can read the timer of the sleep only from a snapshot.
    """

    def __init__(self, loop: ControlledLoop, dag: Graph = DAG, *, from_snapshots: bool = False) -> None:
        self.loop = loop
        self.dag = dag
        self.from_snapshots = from_snapshots
        self.fixture = ManagerFixture(runtime=Runtime(clock=loop))
        self.managers = 0

    async def run_events(self, events: list[Event]) -> None:
        async with AsyncExitStack() as stack:
            manager = await self._next_manager(stack)
            created = await start_run(self.fixture, manager, self.dag)
            await eventually(lambda: self._written(r.TimerSet))
            if self.from_snapshots:
                await eventually(lambda: self._in_snapshot(created))
                self._hide_segment_of_timer(created)
            for event in events:
                if isinstance(event, ManagerDies):
                    if self.from_snapshots:
                        assert self._in_snapshot(created) == self._written(r.TimerSet)
                    await self.fixture.abandon(manager)
                    self.loop.elapsed += event.hours * HOUR
                    self.loop.clock_start += event.jumps * HOUR
                    manager = await self._next_manager(stack)
                    await eventually(lambda: self.loop.timers == self.managers or self._commit_of_sleep())
                elif isinstance(event, ClockJumps):
                    self.loop.clock_start += event.hours * HOUR
                else:
                    self.loop.elapsed += event.hours * HOUR
                for _ in range(5):  # lets the due timers run
                    await asyncio.sleep(0)
            await self._check_end(manager, created)

    async def _check_end(self, manager: Manager, created: Created) -> None:
        result = await with_timeout(manager.wait(self.fixture.address(created)))
        assert result.status is WorkflowStatus.SUCCESSFUL
        invariants.check(self.fixture.inner, "w", expected=Expected(ORACLE))

    async def _next_manager(self, stack: AsyncExitStack) -> Manager:
        self.managers += 1
        manager, _ = await stack.enter_async_context(self.fixture.manager(incarnation=f"i{self.managers}"))
        return manager

    def _in_snapshot(self, created: Created) -> list[r.Record]:
        """Return the timers in the newest snapshot."""
        newest = max(self.fixture.keys(RunLog(self.fixture.inner, created).paths.snapshots), default="")
        data = self.fixture.inner.get(newest) if newest else None
        return [] if data is None else [each for each in segments.decode(newest, data) if isinstance(each, r.TimerSet)]

    def _hide_segment_of_timer(self, created: Created) -> None:
        """Make the segment with the timer unreadable for managers."""
        (seq,) = {
            each.seq for each in invariants.log_of(self.fixture.inner, "w") if isinstance(each.record, r.TimerSet)
        }
        self.fixture.store.fail("get", key=RunLog(self.fixture.inner, created).paths.segment(seq), times=1_000)

    def _written(self, kind: type[r.Record]) -> list[r.Record]:
        return [each.record for each in invariants.log_of(self.fixture.inner, "w") if isinstance(each.record, kind)]

    def _commit_of_sleep(self) -> list[r.StepCommitted]:
        """Return the commit of the sleep, if it is stored."""
        committed = [each for each in self._written(r.StepCommitted) if isinstance(each, r.StepCommitted)]
        return [each for each in committed if each.step_id == "night"]

    def ended_at(self) -> float:
        (slept,) = self._commit_of_sleep()
        return slept.ended


def run_scenario(scenario: LongSleep, events: list[Event]) -> None:
    """Run a scenario, and check that the sleep ends right after the last event."""
    try:
        scenario.loop.run_until_complete(scenario.run_events(events))
    finally:
        scenario.loop.close()
    assert scenario.ended_at() == scenario.loop.now(), "the sleep did not end with the last event"


@pytest.mark.parametrize("events", CASES.values(), ids=CASES.keys())
def test_sleep_of_a_day_ends_on_time(events: list[Event]) -> None:
    run_scenario(LongSleep(ControlledLoop()), events)


@pytest.mark.parametrize(
    "name", [name for name, events in CASES.items() if any(isinstance(event, ManagerDies) for event in events)]
)
def test_next_manager_resumes_a_sleep_from_a_snapshot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_loop, "SNAPSHOT_EVERY", 1)
    run_scenario(LongSleep(ControlledLoop(), DAG_WITH_SECOND_STEP, from_snapshots=True), CASES[name])
