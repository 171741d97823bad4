"""A sleep of a day over restarts of the manager and jumps of its clock; nobody waits for it in earnest."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import invariants, runs
from tests.support.checker import Expected
from tests.support.managers import House, begun, soon
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
"""Seconds; whatever waits longer is a sleep."""
NIGHT = runs.sleeper("night", 24 * HOUR)
DAG = Graph((NIGHT, *runs.graph("night morning:night").steps[1:]), "morning")
ALSO_EVENING = Graph((NIGHT, *runs.graph("night evening morning:night,evening").steps[1:]), "morning")
"""As many records as steps while the sleep goes on, so that a snapshot is due."""
ORACLE = b"morning"


class Sky(asyncio.SelectorEventLoop):
    """A loop, and the clocks of the managers on it: hours pass and clocks are set when the test says so."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.set = 1_700_000_000.0
        self.alarms = 0
        super().__init__()

    def time(self) -> float:
        return super().time() + self.passed

    def call_later(  # type: ignore[override]  # says less of the arguments, which it hands on as they are
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> TimerHandle:
        self.alarms += delay > LONG
        return super().call_later(delay, callback, *args, context=context)

    def now(self) -> float:
        return self.set + self.passed

    def monotonic(self) -> float:
        return self.passed


@dataclass(frozen=True)
class Passes:
    """Time passes; the manager lives."""

    hours: float


@dataclass(frozen=True)
class Jumps:
    """Somebody sets the clock."""

    hours: float


@dataclass(frozen=True)
class Dies:
    """The manager dies; hours later, by a clock that was set meanwhile, the next one begins."""

    hours: float = 0.0
    jumps: float = 0.0


Act = Passes | Jumps | Dies
CASES: dict[str, list[Act]] = {
    "one manager": [Passes(23.9), Passes(0.1)],
    "the clock jumps forward": [Passes(1), Jumps(100), Passes(22), Passes(1)],
    "the clock jumps back": [Passes(1), Jumps(-100), Passes(22), Passes(1)],
    "four managers": [Passes(6), Dies(), Passes(6), Dies(), Passes(6), Dies(), Passes(5), Passes(1)],
    "it goes on while nobody is there": [Passes(6), Dies(hours=10), Passes(7), Passes(1)],
    "it is over before somebody comes": [Passes(6), Dies(hours=30)],
    "forward, unseen": [Passes(6), Dies(jumps=10), Passes(7), Passes(1)],
    "forward over its end, unseen": [Passes(6), Dies(jumps=20)],
    "back, unseen: never longer than the whole": [Passes(6), Dies(hours=1, jumps=-100), Passes(23), Passes(1)],
    "back and forward": [Dies(jumps=-5), Passes(2), Jumps(7), Dies(jumps=5), Passes(14), Passes(1)],
}


class Night:
    """One run with a sleep, under managers that come and go.

    Args:
        dag: of the run.
        from_snapshots: the next manager learns of the sleep from a snapshot, and from nothing else.
    """

    def __init__(self, sky: Sky, dag: Graph = DAG, *, from_snapshots: bool = False) -> None:
        self.sky = sky
        self.dag = dag
        self.from_snapshots = from_snapshots
        self.house = House(machine=Runtime(clock=sky))
        self.lives = 0

    async def play(self, acts: list[Act]) -> None:
        async with AsyncExitStack() as stack:
            manager = await self._next(stack)
            created = await begun(self.house, manager, self.dag)
            await eventually(lambda: self._written(r.TimerSet))
            if self.from_snapshots:
                await eventually(lambda: self._in_snapshot(created))
                self._hide_segment_of_timer(created)
            for act in acts:
                if isinstance(act, Dies):
                    if self.from_snapshots:
                        assert self._in_snapshot(created) == self._written(r.TimerSet)
                    await self.house.abandon(manager)
                    self.sky.passed += act.hours * HOUR
                    self.sky.set += act.jumps * HOUR
                    manager = await self._next(stack)
                    await eventually(lambda: self.sky.alarms == self.lives or self._over())
                elif isinstance(act, Jumps):
                    self.sky.set += act.hours * HOUR
                else:
                    self.sky.passed += act.hours * HOUR
                for _ in range(5):  # what is due by now happens now
                    await asyncio.sleep(0)
            await self._ended(manager, created)

    async def _ended(self, manager: Manager, created: Created) -> None:
        ended = await soon(manager.wait(self.house.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        invariants.check(self.house.inner, "w", expected=Expected(ORACLE))

    async def _next(self, stack: AsyncExitStack) -> Manager:
        self.lives += 1
        manager, _ = await stack.enter_async_context(self.house.manager(incarnation=f"i{self.lives}"))
        return manager

    def _in_snapshot(self, created: Created) -> list[r.Record]:
        """The timers in the newest snapshot."""
        newest = max(self.house.keys(RunLog(self.house.inner, created).paths.snapshots), default="")
        data = self.house.inner.get(newest) if newest else None
        return [] if data is None else [each for each in segments.decode(newest, data) if isinstance(each, r.TimerSet)]

    def _hide_segment_of_timer(self, created: Created) -> None:
        """From now on managers cannot read it."""
        (seq,) = {each.seq for each in invariants.log_of(self.house.inner, "w") if isinstance(each.record, r.TimerSet)}
        self.house.store.fail("get", key=RunLog(self.house.inner, created).paths.segment(seq), times=1_000)

    def _written(self, kind: type[r.Record]) -> list[r.Record]:
        return [each.record for each in invariants.log_of(self.house.inner, "w") if isinstance(each.record, kind)]

    def _over(self) -> list[r.StepCommitted]:
        """The outcome of the sleep, once it has one."""
        committed = [each for each in self._written(r.StepCommitted) if isinstance(each, r.StepCommitted)]
        return [each for each in committed if each.step_id == "night"]

    def ended_at(self) -> float:
        (slept,) = self._over()
        return slept.ended


def sleep_through(night: Night, acts: list[Act]) -> None:
    """The run sleeps through it all, and ends when the last act is over."""
    try:
        night.sky.run_until_complete(night.play(acts))
    finally:
        night.sky.close()
    assert night.ended_at() == night.sky.now(), "by a clock that shows another hour after each act"


@pytest.mark.parametrize("acts", CASES.values(), ids=CASES.keys())
def test_a_day_is_slept_through_and_ends_on_time(acts: list[Act]) -> None:
    sleep_through(Night(Sky()), acts)


@pytest.mark.parametrize("name", [name for name, acts in CASES.items() if any(isinstance(act, Dies) for act in acts)])
def test_a_snapshot_alone_tells_the_next_manager_of_the_sleep(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_loop, "SNAPSHOT_EVERY", 1)
    sleep_through(Night(Sky(), ALSO_EVENING, from_snapshots=True), CASES[name])
