"""Dispatches attempts of steps to leased workers. A lease is a Ray task that executes one attempt after another.

Starting a Ray task takes longer than a short step. So a worker that finished its attempts asks for more before it ends,
and it frees its CPUs while it waits. Attempts of steps that were measured as short are dispatched in batches. This
module does not import Ray: `ray_runner` starts and ends workers. Everything runs on the engine's event loop, and
nothing blocks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import textwrap
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count, islice
from typing import Any

from cachetools import LRUCache

from workflow.engine.dispatch.demand import WaitReason
from workflow.engine.dispatch.pool import Cause, Lease, Pool, StepAttempt
from workflow.engine.messages import Expanded, FinishedAttempt, Raised, StepTask, TaskKey
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.retry import Backoff
from workflow.model.state import StepState

IDLE_TIMEOUT = 0.5
"""Seconds that a worker without work keeps its lease. Its CPUs are free meanwhile."""

BATCH_SECONDS = 0.005
"""Expected duration of a batch, from the recent durations of its steps' functions."""

MAX_BATCH_SIZE = 64

SHORT_STEP = 0.1
"""Seconds. For steps that take longer, more workers are requested than fit, so that an autoscaled cluster grows."""

STALL_TIMEOUT = 0.5
"""Seconds without a dispatch after which more workers are requested than fit. The running steps may wait for steps in
the queue, and Ray frees the CPUs of steps that wait in a Ray call."""

INITIAL_BACKOFF = 0.2
MAX_BACKOFF = 30.0
"""Seconds without new workers after one died before it asked for work. The delay doubles with each such death."""

MAX_IDLE_CHECKS = 20
"""Consecutive checks, one per STALL_TIMEOUT, that found an empty queue. After that, workers that were requested and
have not started are canceled, because an autoscaled cluster would add a node for them."""

EXPLAIN_EVERY = 20
"""Checks, one per STALL_TIMEOUT, between two explanations why no worker starts. The first one is after 10 seconds."""

PATIENT_CHECKS = 60
"""Checks after which the reason is logged if the steps fit into the cluster. If they do not, it is logged at once."""

MAX_MEASURED_FUNCTIONS = 10_000
MAX_AFFINITIES = 10_000
MAX_POOLS = 100

MAX_SHOWN_WAITS = 50
"""Runs whose waiting steps the heartbeat explains. More would make it large."""

MAX_COUNTED_WAITS = 1000
"""Waiting steps of a pool that are counted for the heartbeat."""

SHOWN_WAIT = 500
"""Longest explanation of a wait in the heartbeat, in characters."""

SYSTEM_RETRIES = 3
"""How often an attempt is dispatched again after its worker died, like Ray's default for tasks. It is limited because
some steps kill their worker, for example by using too much memory. Node failures are not counted."""

logger = logging.getLogger(__name__)


class Leases:
    """All leases of one manager.

    Args:
        open_lease: requests a worker from the cluster. It takes (lease id, name of the Ray task, Ray options) and
            returns a handle.
        end_lease: ends the process of a worker, given its handle.
        slots: returns how many workers with these Ray options fit into the cluster now.
        failure: returns the result for a step that could not be executed, from the step's id and the error.
        cause: returns why a worker ended, from the error of its Ray task.
        explain: returns why no worker with these Ray options starts.
    """

    def __init__(
        self,
        open_lease: Callable[[str, str, Mapping[str, Any]], Any],
        end_lease: Callable[[Any], None],
        slots: Callable[[Mapping[str, Any]], int],
        failure: Callable[[str, BaseException], Raised],
        cause: Callable[[BaseException], Cause],
        explain: Callable[[Mapping[str, Any]], WaitReason],
    ) -> None:
        self._start_worker = open_lease
        self._end_worker = end_lease
        self._slots = slots
        self._failure = failure
        self._cause = cause
        self._explain = explain
        self._pools: dict[str, Pool] = {}
        self._leases: dict[str, Lease] = {}
        self._attempts: dict[TaskKey, StepAttempt] = {}
        # Qualified name of a function -> recent mean duration of its steps.
        self._mean_seconds: LRUCache[str, float] = LRUCache(MAX_MEASURED_FUNCTIONS)
        # Dynamic step -> the worker that returned its DAG, for the steps of that DAG with `allow_inplace`.
        self._affinity: LRUCache[TaskKey, Lease] = LRUCache(MAX_AFFINITIES)
        # Workers of an earlier incarnation of the manager may still ask for work, so ids are never reused.
        self._lease_ids = (f"{uuid.uuid4().hex[:12]}-{number}" for number in count(1))

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Queue one attempt; see `Runner`."""
        pool = self._pool(step.spec.options.ray)
        attempt = StepAttempt(run, task, pool)
        self._attempts[task.key] = attempt
        lease = self._affine_lease(step, task) if step.spec.options.allow_inplace else None
        if lease is None:
            pool.queue.append(attempt)
            self._schedule_dispatch(pool)
            return
        lease.pinned.append(attempt)
        self._wake(lease, self._dispatch_pinned)

    def _pool(self, options: Mapping[str, Any]) -> Pool:
        key = json.dumps(dict(options), sort_keys=True) if options else ""
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= MAX_POOLS:
                self._pools = {other: each for other, each in self._pools.items() if not each.is_unused}
            pool = self._pools[key] = Pool(options)
        return pool

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Cancel attempts; see `Runner`. Their workers are ended, and other attempts of these are dispatched again."""
        found = (self._attempts.pop((run.address.run_uuid, step_id), None) for step_id in step_ids)
        canceled = {attempt for attempt in found if attempt is not None}
        for attempt in canceled:
            attempt.canceled = True
        for pool in {attempt.pool for attempt in canceled}:
            pool.queue = deque(attempt for attempt in pool.queue if not attempt.canceled)
        for lease in self._leases.values() if canceled else ():
            if not canceled.isdisjoint(lease.batch):
                self._stop(lease)

    async def exchange(self, lease_id: str, sequence: int, finished: Sequence[FinishedAttempt]) -> tuple[StepTask, ...]:
        """Receive the finished attempts of a worker, and return the tasks that it executes next.

        Waits until there is a task, but not longer than IDLE_TIMEOUT.

        Args:
            lease_id: the worker's lease.
            sequence: number of exchanges that the worker completed before this one.
            finished: the finished attempts, in the order in which they were executed.

        Returns:
            The tasks. If there are none, the worker ends.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            return ()
        if sequence < lease.sequence:  # a repeated exchange: its reply was lost, or took too long
            if lease.waiter is not None:
                return await asyncio.shield(lease.waiter)
            return tuple(attempt.task for attempt in lease.batch)
        lease.sequence += 1
        pool = lease.pool
        pool.failed_starts = 0
        self._report_finished(lease, finished)
        if lease.pinned:
            return self._dispatch_pinned(lease)
        if finished and not pool.is_reusable and not lease.reserved:
            self._remove(lease)
            self._schedule_dispatch(pool)
            return ()
        if pool.queue and not lease.reserved:
            return self._dispatch_batch(lease)
        lease.waiter = asyncio.get_running_loop().create_future()
        self._wait_for_work(lease)
        return await asyncio.shield(lease.waiter)

    def return_unstarted(self, lease_id: str, sequence: int, keys: Collection[TaskKey]) -> None:
        """Take back attempts that a worker has not started, because an earlier one of its batch takes long.

        Args:
            lease_id: the worker's lease.
            sequence: number of exchanges that the worker completed. A call with an older number is ignored: its
                attempts were dispatched again already.
            keys: keys of the attempts.
        """
        lease = self._leases.get(lease_id)
        if lease is None or sequence != lease.sequence:
            return
        for attempt in lease.batch:
            if attempt.task.key not in keys:  # it is running, and takes longer than expected
                self._measure(attempt, BATCH_SECONDS)
        self._requeue([each for each in lease.batch if each.task.key in keys])
        lease.batch = [each for each in lease.batch if each.task.key not in keys]

    def lease_ended(self, lease_id: str, error: BaseException | None) -> None:
        """Handle the end of a worker's Ray task. Attempts that it had not finished are dispatched again.

        Args:
            lease_id: the worker's lease.
            error: the error of the Ray task; None if it returned.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        self._remove(lease)
        cause = self._cause(error) if error is not None else Cause.WORKER
        unfinished = [attempt for attempt in lease.batch if not attempt.canceled]
        if cause is not Cause.NODE and not lease.stopped:
            for attempt in unfinished:
                attempt.deaths += 1
        failed = [attempt for attempt in unfinished if error is not None and attempt.deaths > SYSTEM_RETRIES]
        for attempt in failed:
            assert error is not None, "attempts fail only with an error"
            self._fail(attempt, error)
        self._requeue([attempt for attempt in (*unfinished, *lease.pinned) if attempt not in failed])
        if lease.is_starting and error is not None and not lease.stopped:
            if cause is Cause.OPTIONS:
                self._fail_queued(lease.pool, error)
            else:
                self._back_off(lease.pool, error)
        self._schedule_dispatch(lease.pool)

    def _report_finished(self, lease: Lease, finished: Sequence[FinishedAttempt]) -> None:
        batch, lease.batch = {attempt.task.key: attempt for attempt in lease.batch}, []
        for each in finished:
            attempt = batch.pop(each.key, None)
            if attempt is None or attempt.canceled:
                continue
            self._attempts.pop(each.key, None)
            result = each.result
            self._measure(attempt, max(result.ended - result.started, 0.0))
            if isinstance(result, Expanded) and any(spec.options.allow_inplace for spec in result.graph.steps):
                self._reserve(lease, attempt)
            attempt.run.step_done(attempt.task.step_id, each.attempt, result)
        self._requeue(list(batch.values()))  # the worker's call of return_unstarted has not arrived yet

    def _requeue(self, attempts: Sequence[StepAttempt]) -> None:
        """Put attempts at the front of their queues."""
        for attempt in reversed(attempts):
            attempt.pool.queue.appendleft(attempt)
            self._schedule_dispatch(attempt.pool)

    def _measure(self, attempt: StepAttempt, seconds: float) -> None:
        pool, function = attempt.pool, attempt.task.qualname
        pool.mean_seconds = _moving_mean(pool.mean_seconds, seconds)
        self._mean_seconds[function] = _moving_mean(self._mean_seconds.get(function, 0.0), seconds)

    # --- worker affinity ---

    def _reserve(self, lease: Lease, attempt: StepAttempt) -> None:
        """Let a worker wait for the steps of the DAG that it returned. They start as soon as the DAG is stored."""
        lease.reserved = True
        self._affinity[attempt.task.key] = lease

    def _affine_lease(self, step: StepState, task: StepTask) -> Lease | None:
        """Return the worker that returned the DAG of a step, if it still waits for steps of that DAG."""
        if step.scope is None:
            return None
        lease = self._affinity.get((task.run.run_uuid, step.scope.spec.step_id))
        if lease is None or not lease.reserved or lease.stopped or lease.lease_id not in self._leases:
            return None
        return lease

    # --- dispatching ---

    def _dispatch_pinned(self, lease: Lease) -> tuple[StepTask, ...]:
        while lease.pinned and not lease.batch:
            attempt = lease.pinned.popleft()
            if not attempt.canceled:
                lease.batch.append(attempt)
        return tuple(attempt.task for attempt in lease.batch)

    def _dispatch_batch(self, lease: Lease) -> tuple[StepTask, ...]:
        pool = lease.pool
        fair_share = -(-len(pool.queue) // max(len(pool.leases), 1))  # rounded up
        max_size = min(MAX_BATCH_SIZE, fair_share) if pool.is_reusable else 1
        remaining = BATCH_SECONDS
        while pool.queue and (not lease.batch or len(lease.batch) < max_size):
            attempt = pool.queue[0]
            # A function that was not measured, and an attempt whose worker died, get a batch of their own.
            expected = self._mean_seconds.get(attempt.task.qualname, BATCH_SECONDS)
            remaining -= BATCH_SECONDS if attempt.deaths else expected
            if lease.batch and remaining < 0 and not attempt.canceled:
                break
            pool.queue.popleft()
            if not attempt.canceled:
                lease.batch.append(attempt)
        pool.dispatched += len(lease.batch)
        return tuple(attempt.task for attempt in lease.batch)

    def _schedule_dispatch(self, pool: Pool) -> None:
        if not pool.dispatch_scheduled:
            pool.dispatch_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch, pool)

    def _dispatch(self, pool: Pool) -> None:
        """Give work to waiting workers, and request as many more workers as the queue needs."""
        pool.dispatch_scheduled = False
        while pool.queue and pool.idle:
            self._wake(pool.idle.pop(), self._dispatch_batch)
        max_leases = self._slots(pool.options)
        if pool.mean_seconds > SHORT_STEP or not pool.mean_seconds:
            max_leases = 2 * max_leases + 8
        max_leases += pool.oversubscription
        for _ in range(min(len(pool.queue) - pool.starting(), max_leases - len(pool.leases))):
            if pool.queue and pool.backoff_timer is None:
                self._open_lease(pool)
        if (pool.queue or pool.starting()) and pool.stall_timer is None:
            loop = asyncio.get_running_loop()
            pool.stall_timer = loop.call_later(STALL_TIMEOUT, self._check_stalled, pool, pool.dispatched)

    def _check_stalled(self, pool: Pool, dispatched_before: int) -> None:
        pool.stall_timer = None
        stalled = pool.dispatched == dispatched_before and pool.backoff_timer is None
        self._explain_wait(pool, is_waiting=stalled and pool.has_no_worker)
        wanted = 2 * pool.oversubscription + 8 if stalled else pool.oversubscription
        # Each queued attempt needs at most one worker more than there are.
        pool.oversubscription = min(wanted, len(pool.leases) + len(pool.queue)) if pool.queue else 0
        pool.idle_checks = 0 if pool.queue else pool.idle_checks + 1
        if pool.idle_checks > MAX_IDLE_CHECKS:
            self._cancel_starting(pool)
        else:
            self._dispatch(pool)

    def _explain_wait(self, pool: Pool, *, is_waiting: bool) -> None:
        """Find out why no worker starts, and log it once. The step may wait without limit."""
        if not is_waiting:
            pool.wait_checks, pool.wait_reason, pool.wait_logged = 0, None, False
            return
        pool.wait_checks += 1
        if pool.wait_checks % EXPLAIN_EVERY:
            return
        reason = pool.wait_reason = self._explain(pool.options)
        if not pool.wait_logged and (not reason.fits or pool.wait_checks >= PATIENT_CHECKS):
            pool.wait_logged = True
            first = pool.queue[0]
            logger.warning(
                "workflow %r: step %r has no worker yet: %s%s",
                first.task.run.workflow_id,
                first.task.step_id,
                reason.text,
                f"; {len(pool.queue)} steps wait for this" if len(pool.queue) > 1 else "",
            )

    def wait_reason(self, key: TaskKey) -> str:
        """Return why an attempt waits for a worker; empty if it is executed, or does not wait for long."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.pool.wait_reason is None or attempt not in attempt.pool.queue:
            return ""
        return attempt.pool.wait_reason.text

    def waits(self) -> dict[str, str]:
        """Return why steps of runs have had no worker for a while, by the uuid of the run; see `Manager`."""
        found: dict[str, str] = {}
        for pool in self._pools.values():
            if pool.wait_reason is None or not pool.wait_logged:
                continue
            waiting: dict[str, list[str]] = {}
            for attempt in islice(pool.queue, MAX_COUNTED_WAITS):
                waiting.setdefault(attempt.task.run.run_uuid, []).append(attempt.task.step_id)
            for run_uuid, steps in islice(waiting.items(), MAX_SHOWN_WAITS - len(found)):
                others = f" and {len(steps) - 1} other steps have" if len(steps) > 1 else " has"
                text = f"step {steps[0]}{others} no worker: {pool.wait_reason.text}"
                found.setdefault(run_uuid, textwrap.shorten(text, SHOWN_WAIT, placeholder=" ..."))
        return found

    def _cancel_starting(self, pool: Pool) -> None:
        pool.idle_checks = 0
        for lease in pool.leases.values():
            if lease.is_starting and not lease.stopped:
                self._stop(lease)

    def _back_off(self, pool: Pool, error: BaseException) -> None:
        """Request no workers for a while. The cause may kill the next worker too, and no step is at fault."""
        if pool.backoff_timer is None:  # workers that died during a backoff started before it
            pool.failed_starts += 1
            delay = Backoff(INITIAL_BACKOFF, MAX_BACKOFF).delay(pool.failed_starts)
            logger.warning(
                "a worker died before its first step; no new workers are started for %.1f s: %r", delay, error
            )
            pool.backoff_timer = asyncio.get_running_loop().call_later(delay, self._end_backoff, pool)

    def _end_backoff(self, pool: Pool) -> None:
        pool.backoff_timer = None
        self._schedule_dispatch(pool)

    # --- leases ---

    def _open_lease(self, pool: Pool) -> None:
        lease = Lease(next(self._lease_ids), pool)
        pool.leases[lease.lease_id] = self._leases[lease.lease_id] = lease
        try:
            lease.handle = self._start_worker(lease.lease_id, pool.queue[0].task.qualname, pool.options)
        except Exception as error:  # noqa: BLE001 - Ray refuses options with many kinds of exceptions
            self._remove(lease)
            self._fail_queued(pool, error)

    def _wait_for_work(self, lease: Lease) -> None:
        if not lease.reserved:
            lease.pool.idle.append(lease)
        lease.idle_timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._idle_timeout, lease)

    def _idle_timeout(self, lease: Lease) -> None:
        if lease.reserved and lease.pool.is_reusable:  # from now on it waits for all attempts of its pool
            lease.reserved = False
            self._wait_for_work(lease)
            self._schedule_dispatch(lease.pool)
        elif lease.waiter is not None and not lease.waiter.done():
            self._remove(lease)

    def _wake(self, lease: Lease, dispatch: Callable[[Lease], tuple[StepTask, ...]]) -> None:
        """If a worker waits for work, let it have the tasks that a function takes from a queue."""
        waiter, lease.waiter = lease.waiter, None
        if waiter is not None and not waiter.done():
            if lease.idle_timer is not None:
                lease.idle_timer.cancel()
            waiter.set_result(dispatch(lease))

    def _stop(self, lease: Lease) -> None:
        lease.stopped = True
        self._end_worker(lease.handle)

    def _remove(self, lease: Lease) -> None:
        """Remove a lease. If its worker waits, it gets no work and ends."""
        self._leases.pop(lease.lease_id, None)
        lease.pool.leases.pop(lease.lease_id, None)
        if lease in lease.pool.idle:
            lease.pool.idle.remove(lease)
        if lease.idle_timer is not None:
            lease.idle_timer.cancel()
        if lease.waiter is not None and not lease.waiter.done():
            lease.waiter.set_result(())

    # --- failures ---

    def _fail_queued(self, pool: Pool, error: BaseException) -> None:
        """Let all queued attempts fail, because no worker can be started with these options."""
        while pool.queue:
            self._fail(pool.queue.popleft(), error)

    def _fail(self, attempt: StepAttempt, error: BaseException) -> None:
        if not attempt.canceled:
            task = attempt.task
            self._attempts.pop(task.key, None)
            attempt.run.step_done(task.step_id, task.attempt, self._failure(task.step_id, error))


def _moving_mean(mean: float, seconds: float) -> float:
    return 0.8 * mean + 0.2 * seconds if mean else seconds
