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
from tests.support.managers import House, begun, soon
from tests.support.waiting import eventually
from workflow.engine.machine import Machine
from workflow.engine.manager import Manager
from workflow.model import records as r
from workflow.model.graph import Graph
from workflow.model.records import Created
from workflow.model.status import WorkflowStatus

HOUR = 3_600.0
LONG = 60.0
"""Seconds; whatever waits longer is a sleep."""
DAG = Graph((runs.sleeper("night", 24 * HOUR), *runs.graph("night morning:night").steps[1:]), "morning")


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
    """One run with a sleep, under managers that come and go."""

    def __init__(self, sky: Sky) -> None:
        self.sky = sky
        self.house = House(machine=Machine(clock=sky))
        self.lives = 0

    async def play(self, acts: list[Act]) -> None:
        async with AsyncExitStack() as stack:
            manager = await self._next(stack)
            created = await begun(self.house, manager, DAG)
            await eventually(lambda: self._written(r.TimerSet))
            for act in acts:
                if isinstance(act, Dies):
                    await self.house.abandon(manager)
                    self.sky.passed += act.hours * HOUR
                    self.sky.set += act.jumps * HOUR
                    manager = await self._next(stack)
                    await eventually(lambda: self.sky.alarms == self.lives or self._written(r.StepCommitted))
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
        invariants.check(self.house.inner, "w")

    async def _next(self, stack: AsyncExitStack) -> Manager:
        self.lives += 1
        manager, _ = await stack.enter_async_context(self.house.manager(incarnation=f"i{self.lives}"))
        return manager

    def _written(self, kind: type[r.Record]) -> list[r.Record]:
        return [each.record for each in invariants.log_of(self.house.inner, "w") if isinstance(each.record, kind)]

    def ended_at(self) -> float:
        (slept,) = [each for each in self._written(r.StepCommitted) if getattr(each, "step_id", "") == "night"]
        assert isinstance(slept, r.StepCommitted)
        return slept.ended


@pytest.mark.parametrize("acts", CASES.values(), ids=CASES.keys())
def test_a_day_is_slept_through_and_ends_on_time(acts: list[Act]) -> None:
    sky = Sky()
    night = Night(sky)
    try:
        sky.run_until_complete(night.play(acts))
    finally:
        sky.close()
    assert night.ended_at() == sky.now(), "by a clock that shows another hour after each act"
