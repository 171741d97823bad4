"""Hands tries of steps to leased workers: a Ray task holds its place in the cluster and executes one try after another.

Starting a Ray task costs more than a short step does, so a worker that has finished asks for more before it gives its
place back; while it waits it gives its CPUs back at once. Steps that are measured short are handed over several at a
time. Pure of Ray: `ray_runner` opens and ends leases through two callables. All on the engine's loop, nothing blocks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from typing import Any

from workflow.engine.dispatch.pool import Cause, Lease, Pool, StepAttempt
from workflow.engine.messages import Expanded, FinishedAttempt, Raised, StepTask, TaskKey
from workflow.engine.owner.run_loop import RunLoop
from workflow.model.state import StepState

LINGER = 0.5
"""Seconds a worker without work keeps its place, without its CPUs."""

BATCH_SECONDS = 0.005
"""Steps are handed over together up to this time in all, by what steps of their function took lately."""

MOST_AT_ONCE = 64
SHORT = 0.1
"""Seconds; steps below it are executed by as many workers as fit; for longer ones more places are asked for, so that a
cluster that grows with demand does."""

STUCK = 0.5
"""Seconds behind which more places are asked for than fit, where nothing was handed over: whoever holds the places may
wait for what is in the queue, and Ray frees the CPUs of whoever waits."""

FIRST_REST = 0.2
LONGEST_REST = 30.0
"""Seconds without more workers behind one that died before it asked for work; they double until one does."""

LOOKS_WITHOUT_NEED = 20
"""Looks, at STUCK's distance, at an empty queue, behind which places that were asked for and not given are given up: a
cluster that grows with demand would bring up a node for nobody."""

FUNCTIONS_MEASURED = 10_000
HOMES_REMEMBERED = 10_000
POOLS_REMEMBERED = 100

SYSTEM_RETRIES = 3
"""How often a try is handed over again after its worker died; Ray's own default for tasks. A step that kills its
worker, by its memory say, must not do so for ever. Where the node died it was not the step, and is not counted."""

logger = logging.getLogger(__name__)


def _smoothed(mean: float, took: float) -> float:
    return 0.8 * mean + 0.2 * took if mean else took


class Leases:
    """All pools of one manager.

    Args:
        open_lease: asks the cluster for a worker: (number, name, options) -> handle.
        end_lease: ends the worker's process.
        slots: how many workers of these options fit into the cluster now.
        failure: a Raised that says why a step could not be executed.
        cause: why a worker ended, by the error of its Ray task.
    """

    def __init__(
        self,
        open_lease: Callable[[str, str, Mapping[str, Any]], Any],
        end_lease: Callable[[Any], None],
        slots: Callable[[Mapping[str, Any]], int],
        failure: Callable[[str, BaseException], Raised],
        cause: Callable[[BaseException], Cause],
    ) -> None:
        self._open = open_lease
        self._end = end_lease
        self._slots = slots
        self._failure = failure
        self._cause = cause
        self._pools: dict[str, Pool] = {}
        self._leases: dict[str, Lease] = {}
        self._tries: dict[TaskKey, StepAttempt] = {}
        self._took: OrderedDict[str, float] = OrderedDict()
        # (run, step that returned a DAG) -> the worker it did so in, for the steps that may be executed in place.
        self._homes: OrderedDict[TaskKey, Lease] = OrderedDict()
        # Other numbers than those of an earlier incarnation, whose workers may still ask for work.
        self._numbers = (f"{uuid.uuid4().hex[:12]}-{number}" for number in count(1))

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Begin one try: see Runner."""
        pool = self._pool(step.spec.options.ray)
        attempt = StepAttempt(run, task, pool)
        self._tries[task.key] = attempt
        home = self._home_of(step, task) if step.spec.options.allow_inplace else None
        if home is None:
            pool.queue.append(attempt)
            self._pump_soon(pool)
            return
        home.own.append(attempt)
        self._wake(home, self._hand_own)

    def _pool(self, options: Mapping[str, Any]) -> Pool:
        key = json.dumps(dict(options), sort_keys=True) if options else ""
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= POOLS_REMEMBERED:
                self._pools = {other: each for other, each in self._pools.items() if not each.unused}
            pool = self._pools[key] = Pool(options)
        return pool

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop these tries: see Runner. Whatever else their workers were about is handed to others."""
        found = (self._tries.pop((run.address.run_uuid, step_id), None) for step_id in step_ids)
        wanted = {attempt for attempt in found if attempt is not None}
        for attempt in wanted:
            attempt.stopped = True
        for pool in {attempt.pool for attempt in wanted}:
            pool.queue = deque(attempt for attempt in pool.queue if not attempt.stopped)
        for lease in self._leases.values() if wanted else ():
            if not wanted.isdisjoint(lease.batch):
                lease.stopped = True
                self._end(lease.handle)

    async def exchange(self, number: str, turn: int, done: Sequence[FinishedAttempt]) -> tuple[StepTask, ...]:
        """A worker hands in what it finished and gets what to do next; nothing means: give the place back.

        Args:
            number: of the lease.
            turn: how many exchanges it made before this one.
            done: results, in the order of the tries.
        """
        lease = self._leases.get(number)
        if lease is None:
            return ()
        if turn < lease.turn:  # this very exchange is repeated: its answer was lost, or took too long
            if lease.parked is not None:
                return await asyncio.shield(lease.parked)
            return tuple(attempt.task for attempt in lease.batch)
        lease.turn += 1
        pool = lease.pool
        pool.pause = 0.0
        self._take(lease, done)
        if lease.own:
            return self._hand_own(lease)
        if done and not pool.reusable and not lease.kept:
            self._forget(lease)
            self._pump_soon(pool)
            return ()
        if pool.queue and not lease.kept:
            return self._hand(lease)
        lease.parked = asyncio.get_running_loop().create_future()
        self._park(lease)
        return await asyncio.shield(lease.parked)

    def return_unstarted(self, number: str, turn: int, keys: Collection[TaskKey]) -> None:
        """A worker has not begun these tries, because one before them takes long; they are handed to others.

        Args:
            number: of the lease.
            turn: how many exchanges the worker had made. An older one tells of tries that were handed on already.
            keys: theirs.
        """
        lease = self._leases.get(number)
        if lease is None or turn != lease.turn:
            return
        for attempt in lease.batch:
            if attempt.task.key not in keys:  # it runs, and takes longer than was thought
                self._measure(attempt, BATCH_SECONDS)
        self._requeue([each for each in lease.batch if each.task.key in keys])
        lease.batch = [each for each in lease.batch if each.task.key not in keys]

    def lost(self, number: str, error: BaseException | None) -> None:
        """The Ray task of a lease has ended; what it had not finished is handed to others."""
        lease = self._leases.get(number)
        if lease is None:
            return
        pool = lease.pool
        self._forget(lease)
        cause = self._cause(error) if error is not None else Cause.WORKER
        unfinished = [attempt for attempt in lease.batch if not attempt.stopped]
        for attempt in unfinished:
            attempt.deaths += cause is not Cause.NODE and not lease.stopped
        doomed = [attempt for attempt in unfinished if attempt.deaths > SYSTEM_RETRIES and error is not None]
        for attempt in doomed:
            assert error is not None, "only then is a try doomed"
            self._fail(attempt, error)
        self._requeue([attempt for attempt in (*unfinished, *lease.own) if attempt not in doomed])
        if not lease.turn and error is not None and not lease.stopped:
            if cause is Cause.OPTIONS:
                self._give_up(pool, error)
            else:
                self._rest(pool, error)
        self._pump_soon(pool)

    def _take(self, lease: Lease, done: Sequence[FinishedAttempt]) -> None:
        batch, lease.batch = {attempt.task.key: attempt for attempt in lease.batch}, []
        for finished in done:
            attempt = batch.pop(finished.key, None)
            if attempt is None or attempt.stopped:
                continue
            self._tries.pop(finished.key, None)
            result = finished.result
            self._measure(attempt, max(result.ended - result.started, 0.0))
            if isinstance(result, Expanded) and any(spec.options.allow_inplace for spec in result.graph.steps):
                self._keep(lease, attempt)
            attempt.run.step_done(attempt.task.step_id, finished.attempt, result)
        self._requeue(list(batch.values()))  # its word that they were given back is still on its way

    def _requeue(self, tries: Sequence[StepAttempt]) -> None:
        """Whoever comes next gets them, before all others."""
        for attempt in reversed(tries):
            attempt.pool.queue.appendleft(attempt)
            self._pump_soon(attempt.pool)

    def _measure(self, attempt: StepAttempt, took: float) -> None:
        pool, function = attempt.pool, attempt.task.qualname
        pool.mean = _smoothed(pool.mean, took)
        self._took[function] = _smoothed(self._took.pop(function, 0.0), took)
        if len(self._took) > FUNCTIONS_MEASURED:
            self._took.popitem(last=False)

    def _keep(self, lease: Lease, attempt: StepAttempt) -> None:
        """Steps of the DAG that this try returned are to be executed in its worker, as soon as that DAG is stored."""
        lease.kept = True
        self._homes[attempt.task.key] = lease
        if len(self._homes) > HOMES_REMEMBERED:
            self._homes.popitem(last=False)

    def _home_of(self, step: StepState, task: StepTask) -> Lease | None:
        """The worker that returned the DAG with this step, where it still waits for such steps."""
        if step.scope is None:
            return None
        home = self._homes.get((task.run.run_uuid, step.scope.spec.step_id))
        return home if home is not None and home.kept and home.number in self._leases and not home.stopped else None

    def _hand_own(self, lease: Lease) -> tuple[StepTask, ...]:
        while lease.own and not lease.batch:
            attempt = lease.own.popleft()
            if not attempt.stopped:
                lease.batch.append(attempt)
        return tuple(attempt.task for attempt in lease.batch)

    def _hand(self, lease: Lease) -> tuple[StepTask, ...]:
        pool = lease.pool
        share = min(MOST_AT_ONCE, -(-len(pool.queue) // max(len(pool.leases), 1))) if pool.reusable else 1
        room = BATCH_SECONDS
        while pool.queue and (not lease.batch or len(lease.batch) < share):
            attempt = pool.queue[0]
            # What was not measured yet, and whose worker died, is handed over alone.
            room -= BATCH_SECONDS if attempt.deaths else self._took.get(attempt.task.qualname, BATCH_SECONDS)
            if lease.batch and room < 0 and not attempt.stopped:
                break
            pool.queue.popleft()
            if not attempt.stopped:
                lease.batch.append(attempt)
        pool.handed += len(lease.batch)
        return tuple(attempt.task for attempt in lease.batch)

    def _pump_soon(self, pool: Pool) -> None:
        if not pool.pumping:
            pool.pumping = True
            asyncio.get_running_loop().call_soon(self._pump, pool)

    def _pump(self, pool: Pool) -> None:
        pool.pumping = False
        while pool.queue and pool.idle:
            self._wake(pool.idle.pop(), self._hand)
        places = self._slots(pool.options)
        if pool.mean > SHORT or not pool.mean:
            places = 2 * places + 8
        places += pool.beyond
        for _ in range(min(len(pool.queue) - pool.starting(), places - len(pool.leases))):
            if pool.queue and pool.rest is None:
                self._open_one(pool)
        if (pool.queue or pool.starting()) and pool.alarm is None:
            pool.alarm = asyncio.get_running_loop().call_later(STUCK, self._look_stuck, pool, pool.handed)

    def _look_stuck(self, pool: Pool, handed: int) -> None:
        pool.alarm = None
        stuck = pool.handed == handed and pool.rest is None
        more = 2 * pool.beyond + 8 if stuck else pool.beyond
        # No more than a place for each that waits, beside those who hold one.
        pool.beyond = min(more, len(pool.leases) + len(pool.queue)) if pool.queue else 0
        pool.needless = 0 if pool.queue else pool.needless + 1
        if pool.needless > LOOKS_WITHOUT_NEED:
            self._give_up_places(pool)
        else:
            self._pump(pool)

    def _give_up_places(self, pool: Pool) -> None:
        pool.needless = 0
        for lease in pool.leases.values():
            if not lease.turn and not lease.stopped:
                lease.stopped = True
                self._end(lease.handle)

    def _rest(self, pool: Pool, error: BaseException) -> None:
        """Ask for no more workers for a while: what killed one that came up may kill the next. No step is to blame."""
        if pool.rest is None:  # else those that came up together died together
            pool.pause = min(2 * pool.pause or FIRST_REST, LONGEST_REST)
            logger.warning("a worker died before its first step, the next come in %.1f s: %r", pool.pause, error)
            pool.rest = asyncio.get_running_loop().call_later(pool.pause, self._go_on, pool)

    def _go_on(self, pool: Pool) -> None:
        pool.rest = None
        self._pump_soon(pool)

    def _open_one(self, pool: Pool) -> None:
        lease = Lease(next(self._numbers), pool)
        pool.leases[lease.number] = self._leases[lease.number] = lease
        try:
            lease.handle = self._open(lease.number, pool.queue[0].task.qualname, pool.options)
        except Exception as error:  # noqa: BLE001 - Ray refuses options in many ways; each is the steps' failure
            self._forget(lease)
            self._give_up(pool, error)

    def _give_up(self, pool: Pool, error: BaseException) -> None:
        """No worker can be had with these options: that is how all its steps failed."""
        while pool.queue:
            self._fail(pool.queue.popleft(), error)

    def _park(self, lease: Lease) -> None:
        """Have a worker wait for work, but not for long."""
        if not lease.kept:
            lease.pool.idle.append(lease)
        lease.alarm = asyncio.get_running_loop().call_later(LINGER, self._waited_enough, lease)

    def _waited_enough(self, lease: Lease) -> None:
        if lease.kept and lease.pool.reusable:  # now it waits for whatever comes
            lease.kept = False
            self._park(lease)
            self._pump_soon(lease.pool)
        elif lease.parked is not None and not lease.parked.done():
            self._forget(lease)

    def _wake(self, lease: Lease, hand: Callable[[Lease], tuple[StepTask, ...]]) -> None:
        """Hand work to a worker that waits, if it does."""
        parked, lease.parked = lease.parked, None
        if parked is not None and not parked.done():
            if lease.alarm is not None:
                lease.alarm.cancel()
            parked.set_result(hand(lease))

    def _forget(self, lease: Lease) -> None:
        self._leases.pop(lease.number, None)
        lease.pool.leases.pop(lease.number, None)
        if lease in lease.pool.idle:
            lease.pool.idle.remove(lease)
        if lease.alarm is not None:
            lease.alarm.cancel()
        if lease.parked is not None and not lease.parked.done():  # nobody waits in it for ever, be its worker dead
            lease.parked.set_result(())

    def _fail(self, attempt: StepAttempt, error: BaseException) -> None:
        if not attempt.stopped:
            task = attempt.task
            self._tries.pop(task.key, None)
            attempt.run.step_done(task.step_id, task.attempt, self._failure(task.step_id, error))
