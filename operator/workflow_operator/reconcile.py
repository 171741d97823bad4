"""The reconcile loop. One task for each Workflow repeats: observe, decide, patch the status, apply the actions.

`handlers.py` triggers a Workflow for each event of an object that it depends on. The decision also sets the time of the
next reconciliation. Everything in memory can be read again, so a kill of the process only costs time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog
from cachetools import LRUCache

from workflow_operator.api.status import DriverLog, Phase, WorkflowState, dump_status
from workflow_operator.apply import Failpoints, NoFailpoints, apply
from workflow_operator.core.conditions import explanation_of
from workflow_operator.core.decide import decide
from workflow_operator.core.head_census import HeadCensus, HeadsReport
from workflow_operator.core.observation import Defaults, Disruption, HeadUnreachable, Observation
from workflow_operator.core.texts import clip
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients, observe
from workflow_operator.watch_index import Key, WatchIndex

log = structlog.get_logger(__name__)

MAX_CONCURRENT_RECONCILES = 32
"""More concurrent reconciliations would only wait for the API server."""

LOG_LIMIT = 500
"""Longest message of a logged change of the phase, in characters."""

CONFLICT_SECONDS = 0.05
OTHER_INSTALLATION_SECONDS = 30.0
"""How often a Workflow in a namespace of another installation is looked at: that installation may be uninstalled."""

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 30.0
MAX_DISRUPTIONS = 2000
"""Disrupted head pods that are remembered. Most of them are gone when the next reconciliation reads them."""
URGENT_RETRY_SECONDS = 4.0
"""Longest backoff while a Workflow is canceled or deleted, because that must free its compute within a time limit."""


async def _serve_all(namespace: str) -> str:
    return ""


@dataclass(frozen=True)
class Dependencies:
    """Everything that reconciliations use.

    Attributes:
        clients: the systems that they read and change.
        defaults: the operator's settings that decisions depend on.
        now: returns the time in seconds since 1970.
        metrics: records each reconciliation.
        failpoints: reached at each named point of a reconciliation.
        other_installation: returns the installation that serves a namespace instead of this one, or empty.
    """

    clients: Clients
    defaults: Defaults
    now: Callable[[], float]
    metrics: Metrics = field(default_factory=Metrics)
    failpoints: Failpoints = field(default_factory=NoFailpoints)
    other_installation: Callable[[str], Awaitable[str]] = _serve_all


@dataclass
class _Task:
    """The task of one Workflow, with state that may be lost at any time.

    Attributes:
        triggered: set if another reconciliation is due.
        triggered_at: the loop's time of the first trigger since the last reconciliation started.
        failures: the number of consecutive failed reconciliations.
        refused: why the last reconciliation was refused, for the next one; or empty.
        running: the asyncio task, or None before it starts.
        urgent: whether the Workflow is being canceled or deleted, so that the backoff is short.
        driver_log: where a driver's log was stored, until the status contains it; or None.
    """

    triggered: asyncio.Event = field(default_factory=asyncio.Event)
    triggered_at: float = 0.0
    failures: int = 0
    refused: str = ""
    running: asyncio.Task[None] | None = None
    urgent: bool = False
    driver_log: DriverLog | None = None

    def report_driver_log(self, log: DriverLog) -> None:
        """Remember where a driver's log was stored, for the status."""
        self.driver_log = log

    def trigger(self) -> None:
        """Request another reconciliation."""
        if not self.triggered.is_set():
            self.triggered_at = asyncio.get_running_loop().time()
        self.triggered.set()

    async def wait_for_trigger(self, seconds: float | None) -> None:
        """Wait until the task is triggered, or for `seconds`.

        It does not use `asyncio.wait_for`, which can swallow a cancellation in some Python versions.
        """
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.trigger)
        try:
            await self.triggered.wait()
        finally:
            if timer is not None:
                timer.cancel()


class Reconciler:
    """Reconciles all Workflows.

    Args:
        dependencies: what the reconciliations use.

    Attributes:
        watch_index: which Workflows depend on which RayClusters and pods.
        disruptions: why Kubernetes ended head pods, by pod UID, as the watch showed it.
    """

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._tasks: dict[Key, _Task] = {}
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_RECONCILES)
        self._census: HeadCensus | None = None
        self.watch_index = WatchIndex()
        self.disruptions: LRUCache[str, Disruption] = LRUCache(MAX_DISRUPTIONS)

    def trigger(self, key: Key) -> None:
        """Request a reconciliation of a Workflow. Several calls before it starts count as one."""
        task = self._tasks.setdefault(key, _Task())
        task.trigger()
        if task.running is None:
            task.running = asyncio.create_task(self._run(key, task), name=f"workflow {key}")

    async def stop(self) -> None:
        """Cancel all tasks at any point. The next process continues from the status and the log."""
        running = [task.running for task in self._tasks.values() if task.running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._tasks.clear()

    async def _run(self, key: Key, task: _Task) -> None:
        while True:
            task.triggered.clear()
            async with self._slots:
                delay = await self._reconcile_or_back_off(key, task)
            if delay is None and not task.triggered.is_set():
                self._tasks.pop(key, None)
                return
            await task.wait_for_trigger(delay)

    async def _reconcile_or_back_off(self, key: Key, task: _Task) -> float | None:
        """Reconcile once. Return the seconds until the next time; after a failure, these are a backoff."""
        try:
            with self._dependencies.metrics.measure_reconcile():
                delay = await self._reconcile(key, task)
        except ConflictError:
            return CONFLICT_SECONDS
        except RefusedError as refusal:
            task.refused = str(refusal)
            log.info("refused", namespace=key.namespace, workflow=key.name, error=task.refused)
            return _backoff(task)
        except UnreachableError as error:
            log.warning("not reachable", namespace=key.namespace, workflow=key.name, error=str(error))
            return _backoff(task)
        except Exception:  # a bug that concerns one Workflow must not stop the others
            log.exception("unexpected error in a reconciliation", namespace=key.namespace, workflow=key.name)
            return _backoff(task)
        task.failures = 0
        return delay

    async def _reconcile(self, key: Key, task: _Task) -> float | None:
        deps = self._dependencies
        triggered_at = task.triggered_at
        workflow = await deps.clients.workflows.get(key.namespace, key.name)
        if workflow is None:
            self.watch_index.remove(key)
            deps.metrics.remove(key)
            return None
        if await deps.other_installation(key.namespace):
            deps.metrics.remove(key)
            return OTHER_INSTALLATION_SECONDS
        self.watch_index.update(key, workflow.uid, workflow.spec, workflow.state)
        refused, task.refused = task.refused, ""
        task.urgent = workflow.deleted is not None or workflow.state.phase is Phase.CANCELING
        observation = self._with_experience(await observe(deps.clients, workflow, deps.defaults, refused))
        observation = replace(observation, driver_log=task.driver_log)
        await deps.failpoints.reach("observed")
        decision = decide(observation, deps.now())
        if not decision.actions and dump_status(decision.state) == dump_status(workflow.state):
            task.driver_log = None  # it is in the status, or the status is about another attempt
        else:
            await deps.failpoints.reach("decided")
            version = await deps.clients.workflows.patch_status(workflow, decision.state)
            task.driver_log = None
            self.watch_index.update(key, workflow.uid, workflow.spec, decision.state)
            seconds = asyncio.get_running_loop().time() - triggered_at
            deps.metrics.record_change(workflow.state, decision.state, seconds)
            _log_phase_change(key, workflow.state, decision.state)
            await deps.failpoints.reach("patched")
            await apply(deps.clients, workflow, version, decision.actions, deps.failpoints, task.report_driver_log)
        deps.metrics.set_phase(key, decision.state.phase)
        return decision.requeue_after if task.driver_log is None else 0.0

    def _with_experience(self, observation: Observation) -> Observation:
        """Add what this process knows about the recorded head."""
        cluster = observation.workflow.state.cluster
        head = cluster.head.pod_uid if cluster is not None and cluster.head is not None else ""
        if not head:
            return observation
        disruption = self.disruptions.get(head) or observation.disruption
        return replace(observation, disruption=disruption, heads=self._report(head, observation))

    def _report(self, head: str, observation: Observation) -> HeadsReport | None:
        """Record the reply of a head, and return the report about it; None if it was not asked."""
        if observation.submission is None:
            return None
        now, metrics = asyncio.get_running_loop().time(), self._dependencies.metrics
        replied = not isinstance(observation.submission, HeadUnreachable)
        self._census = self._census or HeadCensus(now)
        self._census.record(head, replied, now)
        metrics.unreachable_heads.set(self._census.unreachable)
        metrics.network_suspected.set(self._census.suspects_network)
        return self._census.report(head, now)


def _log_phase_change(key: Key, before: WorkflowState, after: WorkflowState) -> None:
    """Log one line if the phase changed, with the reason and the message that the status shows."""
    if after.phase is before.phase:
        return
    log.info(
        "phase changed",
        namespace=key.namespace,
        workflow=key.name,
        old=str(before.phase or ""),
        new=str(after.phase),
        reason=after.reason,
        message=" ".join(clip(explanation_of(after), LOG_LIMIT).split()),
    )


def _backoff(task: _Task) -> float:
    """Count a failed reconciliation, and return the seconds until the next one. They double up to 30."""
    task.failures += 1
    longest = URGENT_RETRY_SECONDS if task.urgent else LAST_RETRY_SECONDS
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(task.failures - 1, 10), longest))
