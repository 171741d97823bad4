"""Seeded storms: managers that die and rival ones, on a store that fails at random, before and behind what was asked.

No Ray: fake runners on a memory store. Whatever happens, the run ends with the oracle's value and the invariants hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import pytest

from tests.support import invariants, runs
from tests.support.fake_runner import expanded, raised, returned
from tests.support.managers import ManagerFixture, new_run, with_timeout
from workflow.engine.messages import Expanded, Raised, Returned, StepTask
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.errors import OwnershipError, UnavailableError, WorkflowConflictError
from workflow.model.graph import StepOptions
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run

DAG = runs.graph("a b c:a,b x:c y:x,b end:x,y", y=StepOptions(max_retries=3), x=StepOptions(catch_exceptions=True))
SUB_DAG = runs.graph("x/1 x/2:x/1 x/3:x/1 x/4:x/2,x/3")
METHODS = ("create", "get", "head", "list", "delete", "overwrite")
SEEDS = 40


class Storm:
    """One seed's weather.

    Args:
        seed: decides everything that the threads' timing does not.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.house = ManagerFixture()
        self.created = new_run(DAG)

    def script(self, task: StepTask) -> Returned | Raised | Expanded:
        """What the steps do: always the same, but for errors that a retry heals."""
        if task.step_id == "x":
            return expanded(SUB_DAG)
        if task.step_id == "y" and task.attempt < 3:
            return raised("y")
        return returned(task.step_id)

    def gust(self) -> None:
        """Some calls of the store will fail."""
        for _ in range(self.chance.randint(0, 3)):
            key = self.chance.choice(["", "/log/", "registry/", "owned/", "index/", "managers/", "inbox/"])
            after = self.chance.random() < 0.5
            self.house.store.fail(self.chance.choice(METHODS), key=key, times=self.chance.randint(1, 4), after=after)

    async def life(self, number: int) -> None:
        """A manager that makes the run or takes it over, and dies after a while or stays as a zombie."""
        manager_id = f"m{self.chance.randint(1, 3)}"
        with contextlib.suppress(UnavailableError):
            async with self.house.manager(manager_id, f"i{number}", script=self.script) as (manager, _):
                self.gust()
                await self._begin(manager)
                for _ in range(self.chance.randint(0, 30)):
                    await asyncio.sleep(0)
                self.gust()
                if self.chance.random() < 0.5:
                    await self.house.abandon(manager)
                else:
                    await asyncio.sleep(self.chance.random() * 0.05)

    async def _begin(self, manager: Manager) -> None:
        with contextlib.suppress(OwnershipError, WorkflowConflictError, UnavailableError):
            if read_run(self.house.inner, "w") is None:
                self.house.keep_function(self.created)
                await manager.start(self.created)
            else:
                await manager.claim(ClaimRequest("w", 1, take_over=True))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_storm_loses_nothing_and_doubles_nothing(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    storm = Storm(seed)
    for number in range(storm.chance.randint(1, 5)):
        lives = (
            [storm.life(2 * number), storm.life(2 * number + 1)]
            if storm.chance.random() < 0.4
            else [storm.life(2 * number)]
        )
        await with_timeout(asyncio.gather(*lives), 30)
    storm.house.store = type(storm.house.store)(storm.house.inner)
    async with storm.house.manager("last", script=storm.script) as (manager, _):
        await storm._begin(manager)
        ended = await with_timeout(manager.wait_or_resume(storm.house.address(storm.created)), 30)
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert ended.outcome is not None
    assert ended.outcome.value.inline == b"end"
    invariants.check(storm.house.inner, "w")
