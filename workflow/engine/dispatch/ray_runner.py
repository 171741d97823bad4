"""Executes steps in Ray: the production `Runner`. Opens leases as Ray tasks, and reports when they end."""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

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
from workflow.engine.dispatch.demand import ClusterNode, WaitReason, demand_of, wait_reason
from workflow.engine.dispatch.event_hosts import EventHosts
from workflow.engine.dispatch.events import EventDispatcher
from workflow.engine.dispatch.leases import Leases
from workflow.engine.dispatch.pool import Cause, ends_process
from workflow.engine.link import LinkAddress, LinkServer
from workflow.engine.messages import Raised, StepTask, StoreWitness
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.worker.exceptions import TRACEBACK_LINES, describe
from workflow.engine.worker.same_store import prove_worker
from workflow.engine.worker.transfer import copied
from workflow.engine.worker.worker_loop import serve
from workflow.errors import WorkflowError
from workflow.model.graph import StepKind, Value
from workflow.model.run_view import ErrorInfo
from workflow.model.state import StepState

logger = logging.getLogger(__name__)

CLUSTER_SIZE_MAX_AGE: Final = 5.0
"""Seconds after which the size of the cluster is read again."""

SLOTS_WITHOUT_RESOURCES: Final = 256
"""Largest number of workers for steps that request no resources."""


class RayRunner:
    """Starts and cancels attempts in Ray.

    Args:
        loop: the engine's event loop.
        manager: handle of the manager actor, for the actor calls of workers.
        witness: shows workers which store the manager uses.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, manager: Any, witness: StoreWitness) -> None:
        self._loop = loop
        self._manager = manager
        self._witness = witness
        self._serve = ray.remote(serve)
        self._serve_and_exit = ray.remote(max_calls=1)(serve)
        self._copied = ray.remote(num_cpus=0, max_retries=0)(copied)  # with retries, Ray would keep the original
        self._accelerators = frozenset(ray.get_runtime_context().get_accelerator_ids())
        self._cluster_size: Mapping[str, float] = {}
        self._cluster_size_read_at = -CLUSTER_SIZE_MAX_AGE
        self.leases = Leases(self._open_lease, self._end_lease, self._slots, system_failure, cause_of, _explain)
        self._events = EventDispatcher(
            EventHosts(loop, system_failure, functools.partial(prove_worker, witness, manager))
        )
        self._link_server = LinkServer(self.leases.exchange)
        self._link_address: LinkAddress | None = None

    async def begin(self) -> None:
        """Start the server for direct connections, if it is allowed and possible. Workers can do without it."""
        if link.is_allowed():
            try:
                self._link_address = await self._link_server.open(ray.util.get_node_ip_address())
            except OSError as error:
                logger.warning("workers do not connect directly, but call this actor, which is slower: %s", error)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Start one attempt."""
        if step.spec.kind is StepKind.EVENT:
            self._events.start(run, task)
        else:
            self.leases.start(run, step, task)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Cancel attempts: end the worker processes that run steps, and cancel the coroutines of listeners."""
        self.leases.cancel(run, step_ids)
        self._events.cancel(run, step_ids)

    def own_copy(self, ref: Any) -> Any:
        """Return a reference to a copy of a Ray object that this process owns."""
        return self._copied.remote(ref)

    def _open_lease(self, lease_id: str, name: str, options: Mapping[str, Any]) -> Any:
        ray_options = dict(options)
        if "scheduling_strategy" in ray_options:
            ray_options["scheduling_strategy"] = strategies.decode(ray_options["scheduling_strategy"])
        ray_options.pop("max_calls", None)  # Ray accepts it only in the decorator
        exits = ends_process(options, self._accelerators)
        # No retries by Ray: `Leases` knows which attempts a lost worker had, and dispatches those again.
        serve_lease = (self._serve_and_exit if exits else self._serve).options(name=name, max_retries=0, **ray_options)
        ref = serve_lease.remote(self._manager, lease_id, self._witness, self._link_address, exits)
        ref.future().add_done_callback(functools.partial(self._lease_ended, lease_id))
        return ref

    def _end_lease(self, ref: Any) -> None:
        ray.cancel(ref, force=True)

    def _lease_ended(self, lease_id: str, future: Future[None]) -> None:
        """Report the end of a Ray task. Ray calls this in a thread of its own."""
        self._loop.call_soon_threadsafe(self.leases.lease_ended, lease_id, future.exception())

    def _slots(self, options: Mapping[str, Any]) -> int:
        """Return how many workers with these options would fit into the empty cluster; at least one."""
        if time.monotonic() - self._cluster_size_read_at > CLUSTER_SIZE_MAX_AGE:
            self._cluster_size = ray.cluster_resources()
            self._cluster_size_read_at = time.monotonic()
        fits = [int(self._cluster_size.get(name, 0) // amount) for name, amount in demand_of(options).items()]
        return max(1, min(fits, default=SLOTS_WITHOUT_RESOURCES))


def _explain(options: Mapping[str, Any]) -> WaitReason:
    """Return why no worker with these options starts in this cluster."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = [ClusterNode(node["NodeID"], node["Resources"], node.get("Labels") or {}) for node in alive]
    return wait_reason(options, nodes, ray.available_resources())


def cause_of(error: BaseException) -> Cause:
    """Return why the Ray task of a worker failed.

    Ray raises NodeDiedError if it cannot reach the worker's raylet, because the node crashed, was preempted or was
    scaled down. WorkerCrashedError does not exclude a node failure: a raylet on a machine that is going down may still
    report its workers so. With OutOfMemoryError Ray killed the worker, often the one that used the memory. The step may
    be the cause of these two.
    """
    if isinstance(error, (RuntimeEnvSetupError, TaskUnschedulableError, TaskPlacementGroupRemoved)):
        return Cause.OPTIONS
    if isinstance(error, (NodeDiedError, LocalRayletDiedError)):
        return Cause.NODE
    # `serve` itself raised. If it lacked neither a manager nor memory, its environment is wrong, for example without
    # this library. Every other worker with these options has the same environment.
    if isinstance(error, RayTaskError) and not isinstance(error.cause, (RayError, OSError, MemoryError)):
        return Cause.OPTIONS
    return Cause.WORKER


def system_failure(step_id: str, error: BaseException) -> Raised:
    """Return the result for a step that Ray could not execute, after all retries.

    A worker that refuses all work, for example because it sees another store, raises an error of this library.
    """
    refusal = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(refusal, WorkflowError):
        pickled = pickle.dumps(refusal)
        described = describe(refusal, step_id)
        return Raised(described, Value(inline=pickled, size=len(pickled)), 0.0, 0.0, system=True)
    what = str(error).splitlines()[0] if isinstance(error, RayError) and str(error) else repr(error)
    last_lines = "\n".join(str(error).splitlines()[-TRACEBACK_LINES:])
    info = ErrorInfo(kind=f"ray.{type(error).__name__}", message=what, traceback=last_lines, step_id=step_id)
    exception = RuntimeError(f"step {step_id!r} could not be executed by Ray: {type(error).__name__}: {what}")
    pickled = pickle.dumps(exception)
    return Raised(info, Value(inline=pickled, size=len(pickled)), 0.0, 0.0, system=True)
