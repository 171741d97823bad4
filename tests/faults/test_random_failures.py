"""Random failures: managers die and compete for a run, while calls of the store fail before or after their effect.

The tests use fake runners and a store in memory, without Ray. The run must always finish with the expected value, and
the invariants must hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import pytest

from tests.support import invariants, runs
from tests.support.claims import take_over
from tests.support.fake_runner import expanded, raised, returned
from tests.support.managers import ManagerFixture, new_run, with_timeout
from workflow.engine.messages import Expanded, Raised, Returned, StepTask
from workflow.engine.owner.manager import Manager
from workflow.errors import OwnershipError, UnavailableError, WorkflowConflictError
from workflow.model.graph import StepOptions
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run

DAG = runs.graph("a b c:a,b x:c y:x,b end:x,y", y=StepOptions(max_retries=3), x=StepOptions(catch_exceptions=True))
SUB_DAG = runs.graph("x/1 x/2:x/1 x/3:x/1 x/4:x/2,x/3")
METHODS = ("create", "get", "head", "list", "delete", "overwrite")
SEEDS = 40


class RandomFailures:
    """The random failures of one seed.

    Args:
        seed: decides all choices. Only the timing of threads differs between two runs of a seed.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.house = ManagerFixture()
        self.created = new_run(DAG)

    def script(self, task: StepTask) -> Returned | Raised | Expanded:
        """Execute a step. Its value is always the same, and step `y` raises in its first two attempts."""
        if task.step_id == "x":
            return expanded(SUB_DAG)
        if task.step_id == "y" and task.attempt < 3:
            return raised("y")
        return returned(task.step_id)

    def inject_store_faults(self) -> None:
        """Make up to three kinds of store calls fail."""
        for _ in range(self.chance.randint(0, 3)):
            key = self.chance.choice(["", "/log/", "registry/", "owned/", "index/", "managers/", "inbox/"])
            after = self.chance.random() < 0.5
            self.house.store.fail(self.chance.choice(METHODS), key=key, times=self.chance.randint(1, 4), after=after)

    async def run_manager(self, number: int) -> None:
        """Start the run or take it over with a new manager. The manager is abandoned, or leaves after a while."""
        manager_id = f"m{self.chance.randint(1, 3)}"
        with contextlib.suppress(UnavailableError):
            async with self.house.manager(manager_id, f"i{number}", script=self.script) as (manager, _):
                self.inject_store_faults()
                await self.start_or_claim(manager)
                for _ in range(self.chance.randint(0, 30)):
                    await asyncio.sleep(0)
                self.inject_store_faults()
                if self.chance.random() < 0.5:
                    await self.house.abandon(manager)
                else:
                    await asyncio.sleep(self.chance.random() * 0.05)

    async def start_or_claim(self, manager: Manager) -> None:
        """Start the run, or claim it if it exists."""
        with contextlib.suppress(OwnershipError, WorkflowConflictError, UnavailableError):
            if read_run(self.house.inner, "w") is None:
                self.house.keep_function(self.created)
                await manager.start(self.created)
            else:
                await manager.claim(take_over(self.house.inner))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_random_failures_keep_all_invariants(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    failures = RandomFailures(seed)
    for number in range(failures.chance.randint(1, 5)):
        managers = [failures.run_manager(2 * number)]
        if failures.chance.random() < 0.4:
            managers.append(failures.run_manager(2 * number + 1))
        await with_timeout(asyncio.gather(*managers), 30)
    failures.house.store = type(failures.house.store)(failures.house.inner)
    async with failures.house.manager("last", script=failures.script) as (manager, _):
        await failures.start_or_claim(manager)
        result = await with_timeout(manager.wait_or_resume(failures.house.address(failures.created)), 30)
    assert result.status is WorkflowStatus.SUCCESSFUL
    assert result.outcome is not None
    assert result.outcome.value.inline == b"end"
    invariants.check(failures.house.inner, "w")
