"""One life of a manager on a folder store: makes the run or takes it over, and may end its process at a named point.

    python -m tests.faults.one_life STORE POINT NTH INCARNATION

No Ray: a fake runner executes, in the manager's own process, so that blobs, commits, names, claims and snapshots of one
life all pass the same points. Prints a line for each start of a step, and how the run ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from tests.support import runs
from tests.support.fake_runner import FakeRunner, expanded
from workflow.engine import run_loop
from workflow.engine.manager import ClaimRequest, Manager, Pace
from workflow.engine.messages import Expanded, Returned, RunAddress, StepTask
from workflow.errors import WorkflowConflict
from workflow.log import naming
from workflow.log.blobs import INLINE
from workflow.log.points import Points
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.store import open_store

DAG = runs.graph("a b c:a,b x:c end:x")
SUB_DAG = runs.graph("x/1 x/2 x/3:x/1,x/2")
STEPS = {spec.step_id for spec in (*DAG.steps, *SUB_DAG.steps)}


class DieAt:
    """Ends the process, as SIGKILL would, at the n-th time that a point is reached."""

    def __init__(self, point: str, nth: int) -> None:
        self._point = point
        self._left = nth

    def reach(self, point: str) -> None:
        """See the port."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os._exit(9)


async def live(url: str, points: Points, incarnation: str) -> None:
    """To the run's end, or to the point."""
    store = open_store(url)
    created = runs.created(DAG)
    log = RunLog(store, created, points)

    def script(task: StepTask) -> Returned | Expanded:
        print("started", task.step_id, flush=True)
        if task.step_id == "x":
            return expanded(SUB_DAG)
        value = log.blobs.keep(task.step_id.encode() * INLINE)  # large: each value is a blob
        return Returned(value, task.step_id, 2.0, 3.0)

    pace = Pace(heartbeat=1.0, bell=0.05, fence=1.0, follow=0.05, store=0.05)
    me = Owner(f"manager-{incarnation}", incarnation, f"address-{incarnation}")
    manager = Manager(store, me, FakeRunner(script), pace, points)
    await manager.begin()
    if isinstance(naming.current(store, "w"), Created):
        with contextlib.suppress(WorkflowConflict):  # it ended, and only its hints were not written any more
            await manager.claim(ClaimRequest("w", 1, take_over=True))
    else:
        log.blobs.put(b"a function")
        await manager.start(created)
    ended = await manager.wait(RunAddress(url, "w", 1, created.run_uuid))
    assert ended.outcome is not None
    print("ended", ended.status, log.blobs.load(ended.outcome.value)[:3].decode(), flush=True)
    await manager.leave()


if __name__ == "__main__":
    run_loop.SNAPSHOT_EVERY = 4
    asyncio.run(live(sys.argv[1], DieAt(sys.argv[2], int(sys.argv[3])), sys.argv[4]))
