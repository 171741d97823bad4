"""Executes steps in Ray: the Runner of production. Opens leases as Ray tasks, and tells when one has ended."""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
)

from workflow.engine import link, strategies
from workflow.engine.dispatch.event_hosts import EventHosts
from workflow.engine.dispatch.events import EventDispatcher
from workflow.engine.dispatch.leases import Leases
from workflow.engine.dispatch.pool import Cause
from workflow.engine.link import LinkAddress, LinkServer
from workflow.engine.messages import Raised, StepTask
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.worker.worker_loop import serve
from workflow.model.graph import StepKind, Value
from workflow.model.run_view import ErrorInfo
from workflow.model.state import StepState

logger = logging.getLogger(__name__)

CLUSTER_READ_EVERY = 5.0
"""Seconds after which the cluster's size is read again."""

WITHOUT_DEMAND = 256
"""Workers at once for steps that ask for no resource at all."""


class RayRunner:
    """Starts and stops tries in Ray.

    Args:
        loop: where the runs' loops live.
        manager: handle of the actor that workers exchange with.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, manager: Any) -> None:
        self._loop = loop
        self._manager = manager
        self._serve = ray.remote(serve)
        self._cluster: tuple[float, Mapping[str, float]] = (-CLUSTER_READ_EVERY, {})
        self.leases = Leases(self._open, self._end, self._slots, system_failure, cause_of)
        self._listening = EventDispatcher(EventHosts(loop, system_failure))
        self._links = LinkServer(self.leases)
        self._address: LinkAddress | None = None

    async def begin(self) -> None:
        """Listen for workers, where that is allowed and possible; they do without."""
        if link.allowed():
            try:
                self._address = await self._links.open(ray.util.get_node_ip_address())
            except OSError as error:
                logger.warning("workers will ask for steps by actor calls only: %s", error)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Begin one try."""
        if step.spec.kind is StepKind.EVENT:
            self._listening.start(run, task)
        else:
            self.leases.start(run, step, task)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop these tries; the worker processes that run them are ended, coroutines are canceled."""
        self.leases.cancel(run, step_ids)
        self._listening.cancel(run, step_ids)

    def _open(self, number: str, name: str, options: Mapping[str, Any]) -> Any:
        # Ray's own retries are off: what a lost worker was about is handed to another by us, who know what it was.
        asked = dict(options)
        if "scheduling_strategy" in asked:
            asked["scheduling_strategy"] = strategies.decode(asked["scheduling_strategy"])
        ref = self._serve.options(name=name, max_retries=0, **asked).remote(self._manager, number, self._address)
        ref.future().add_done_callback(functools.partial(self._ended, number))
        return ref

    def _end(self, ref: Any) -> None:
        ray.cancel(ref, force=True)

    def _ended(self, number: str, future: Future[None]) -> None:
        """On a thread of Ray's."""
        self._loop.call_soon_threadsafe(self.leases.lost, number, future.exception())

    def _slots(self, options: Mapping[str, Any]) -> int:
        """How many workers with these options would fit into the cluster, were it empty; at least one."""
        read_at, total = self._cluster
        if time.monotonic() - read_at > CLUSTER_READ_EVERY:
            total = ray.cluster_resources()
            self._cluster = (time.monotonic(), total)
        wanted = {
            "CPU": options.get("num_cpus", 1),
            "GPU": options.get("num_gpus", 0),
            "memory": options.get("memory", 0),
            **options.get("resources", {}),
        }
        fits = [int(total.get(name, 0) // each) for name, each in wanted.items() if each]
        return max(1, min(fits, default=WITHOUT_DEMAND))


def cause_of(error: BaseException) -> Cause:
    """Why the Ray task of a worker failed.

    Ray says NodeDiedError where it cannot reach the worker's raylet any more: so of a node that crashed, was preempted
    or was scaled down. WorkerCrashedError says nothing of the node: a raylet that still answers while its machine goes
    down reports its workers so. OutOfMemoryError names the worker that Ray chose to kill, often the one to blame. These
    two may be the step's doing.
    """
    if isinstance(error, (RuntimeEnvSetupError, TaskUnschedulableError, TaskPlacementGroupRemoved)):
        return Cause.OPTIONS
    if isinstance(error, (NodeDiedError, LocalRayletDiedError)):
        return Cause.NODE
    # `serve` itself raised. Not for want of a manager or of memory: then its environment lacks this library, say, and
    # so will the next worker's.
    if isinstance(error, RayTaskError) and not isinstance(error.cause, (RayError, OSError, MemoryError)):
        return Cause.OPTIONS
    return Cause.WORKER


def system_failure(step_id: str, error: BaseException) -> Raised:
    """What Ray could not execute, even after several tries, as a result."""
    what = str(error).splitlines()[0] if isinstance(error, RayError) and str(error) else repr(error)
    info = ErrorInfo(kind=f"ray.{type(error).__name__}", message=what, traceback=str(error)[-2000:], step_id=step_id)
    carried = RuntimeError(f"step {step_id!r} could not be executed by Ray: {type(error).__name__}: {what}")
    pickled = pickle.dumps(carried)
    return Raised(info, Value(inline=pickled, size=len(pickled)), 0.0, 0.0, system=True)
