"""The data of `leases`: attempts, workers and queues. Only `leases` changes it."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workflow.engine.dispatch.demand import WaitReason
from workflow.engine.messages import StepTask
from workflow.engine.owner.run_loop import RunLoop

FREED_WHILE_WAITING: Final = frozenset({"num_cpus", "runtime_env", "scheduling_strategy", "label_selector"})
"""Options with which a waiting worker reserves nothing that others need. Ray frees the CPUs of a worker that waits in a
Ray call, and no other resource."""


_PROFILERS: Final = frozenset({"nsight", "rocprof-sys"})
"""Keys of a `runtime_env` that start a profiler, which writes its report when the process ends."""


def ends_process(options: Mapping[str, Any], accelerators: Collection[str]) -> bool:
    """Return whether the process of a worker must end after its lease.

    Only the end of a process frees the memory of its accelerator. Ray therefore ends the process of a task with
    `num_gpus`, except with `max_calls=0`. It keeps that of a task with another accelerator, but such a process has
    memory to free as well.

    Args:
        options: the Ray options of the worker.
        accelerators: Ray's names of the resources that are accelerators, for example `GPU` and `TPU`.
    """
    if options.get("max_calls") is not None:
        return bool(options["max_calls"] == 1)
    demand = {"GPU": options.get("num_gpus"), **(options.get("resources") or {})}
    return any(demand.get(name) for name in accelerators) or _is_profiled(options)


def _is_profiled(options: Mapping[str, Any]) -> bool:
    return not _PROFILERS.isdisjoint(options.get("runtime_env") or {})


class Cause(enum.Enum):
    """Why the Ray task of a worker failed.

    Attributes:
        OPTIONS: no worker can be started with these options, however often one is requested.
        NODE: the node was lost, which is not the fault of the step.
        WORKER: the worker process died, perhaps because of the step.
    """

    OPTIONS = enum.auto()
    NODE = enum.auto()
    WORKER = enum.auto()


@dataclass(eq=False, slots=True)
class StepAttempt:
    """One attempt of a step that is queued or running.

    Attributes:
        pool: the pool of the step's own options, even if a worker of another pool executes the attempt.
        deaths: number of workers that died while they executed the attempt, perhaps because of it.
        canceled: whether the run no longer needs the result.
    """

    run: RunLoop
    task: StepTask
    pool: Pool
    deaths: int = 0
    canceled: bool = False


@dataclass(eq=False, slots=True)
class Lease:
    """The place of one worker in the cluster.

    Attributes:
        handle: handle of the Ray task; it is needed to end the worker.
        batch: the attempts that the worker executes now.
        pinned: attempts that only this worker may execute next.
        reserved: whether the worker waits for pinned attempts only.
        sequence: number of completed exchanges. A repeated exchange has a smaller number.
        waiter: future of the exchange in which the worker waits for work.
        idle_timer: ends the wait.
        stopped: whether the worker was ended on purpose, which is not the fault of its attempts.
    """

    lease_id: str
    pool: Pool
    handle: Any = None
    batch: list[StepAttempt] = field(default_factory=list)
    pinned: deque[StepAttempt] = field(default_factory=deque)
    reserved: bool = False
    sequence: int = 0
    waiter: asyncio.Future[tuple[StepTask, ...]] | None = None
    idle_timer: asyncio.TimerHandle | None = None
    stopped: bool = False

    @property
    def is_starting(self) -> bool:
        """Whether the worker has not asked for work yet."""
        return self.sequence == 0


@dataclass(eq=False, slots=True)
class Pool:
    """The workers and the queue of one set of Ray options.

    Attributes:
        idle: leases whose workers wait for work.
        mean_seconds: recent mean duration of a step; 0 if none was executed.
        failed_starts: workers that died in succession before they asked for work. Simultaneous deaths count once.
        backoff_timer: set while no workers are requested, because one died before it asked for work.
        dispatched: number of attempts dispatched so far.
        oversubscription: number of workers to request beyond those that fit, because the pool stalled.
        idle_checks: number of consecutive checks that found an empty queue.
        dispatch_scheduled: whether a dispatch is scheduled on the event loop.
        stall_timer: checks whether the pool stalled.
        wait_checks: number of consecutive checks that found a queue, and no worker that asked for work.
        wait_reason: why the queue waits; None if it does not, or not for long.
        wait_logged: whether the reason was logged.
    """

    options: Mapping[str, Any]
    queue: deque[StepAttempt] = field(default_factory=deque)
    leases: dict[str, Lease] = field(default_factory=dict)
    idle: list[Lease] = field(default_factory=list)
    mean_seconds: float = 0.0
    failed_starts: int = 0
    backoff_timer: asyncio.TimerHandle | None = None
    dispatched: int = 0
    oversubscription: int = 0
    idle_checks: int = 0
    dispatch_scheduled: bool = False
    stall_timer: asyncio.TimerHandle | None = None
    wait_checks: int = 0
    wait_reason: WaitReason | None = None
    wait_logged: bool = False

    @property
    def is_reusable(self) -> bool:
        """Whether a worker executes more than one step. Not if it would reserve, for example, a GPU while it waits."""
        if ends_process(self.options, ()):
            return False
        return set(self.options) - {"max_calls"} <= FREED_WHILE_WAITING

    @property
    def is_unused(self) -> bool:
        """Whether the pool can be dropped. Only its measurements are lost."""
        return not (self.queue or self.leases or self.stall_timer or self.backoff_timer or self.dispatch_scheduled)

    @property
    def has_no_worker(self) -> bool:
        """Whether attempts are queued, and none of the requested workers has asked for work."""
        return bool(self.queue) and all(lease.is_starting for lease in self.leases.values())

    def starting(self) -> int:
        """Return the number of workers that have not asked for work yet."""
        return sum(1 for lease in self.leases.values() if lease.is_starting)
