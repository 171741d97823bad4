"""The loop of a leased worker: executes the attempts that its manager dispatches to it, until there are none.

`serve` runs as a Ray task.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import ray

from workflow.engine.link import Link, LinkAddress
from workflow.engine.messages import FinishedAttempt, StepResult, StepTask, StoreWitness
from workflow.engine.worker import context
from workflow.engine.worker.execution import execute
from workflow.engine.worker.same_store import prove_worker

RETURN_UNSTARTED_AFTER = 0.02
"""Seconds after which a worker returns the attempts of its batch that it has not started. A batch contains steps that
were short before. If one takes long, the others must not wait for it, because it may wait for one of them."""

logger = logging.getLogger(__name__)


def serve(manager: Any, lease_id: str, witness: StoreWitness, address: LinkAddress | None, exits: bool = False) -> None:
    """Execute attempts until the manager has none.

    Args:
        manager: handle of the manager actor.
        lease_id: id of this worker's lease.
        witness: shows which store the manager uses.
        address: address of the manager's server for direct connections; None to use actor calls only.
        exits: whether Ray ends this process after the call.

    Raises:
        StoreRefusedError: this worker does not see the store of the manager, so it can execute no step.
    """
    prove_worker(witness, manager)
    context.set_object_owner(manager if exits else None)
    connection = _ManagerConnection(manager, lease_id, address)
    finished: tuple[FinishedAttempt, ...] = ()
    sequence = 0
    try:
        while batch := connection.exchange(sequence, finished):
            sequence += 1
            finished = execute_all(batch, execute, functools.partial(connection.return_unstarted, sequence))
    finally:
        connection.close()


class _ManagerConnection:
    """Calls the manager: over a direct connection while that works, and by actor calls otherwise."""

    def __init__(self, manager: Any, lease_id: str, address: LinkAddress | None) -> None:
        self._manager = manager
        self._lease_id = lease_id
        self._link: Link | None = None
        try:
            self._link = Link(address) if address is not None else None
        except OSError as error:
            logger.info("lease %s: no direct connection to the manager, only actor calls: %s", lease_id, error)

    def exchange(self, sequence: int, finished: tuple[FinishedAttempt, ...]) -> tuple[StepTask, ...]:
        batch = None
        if self._link is not None:
            try:
                batch = self._link.exchange(self._lease_id, sequence, finished)
            except OSError as error:
                logger.info(
                    "lease %s: lost the direct connection, continuing by actor calls: %s", self._lease_id, error
                )
                self.close()
        if batch is None:
            batch = ray.get(self._manager.exchange.remote(self._lease_id, sequence, finished))
        return batch

    def return_unstarted(self, sequence: int, tasks: list[StepTask]) -> None:
        self._manager.return_unstarted.remote(self._lease_id, sequence, tuple(task.key for task in tasks))

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def execute_all(
    batch: Sequence[StepTask],
    run: Callable[[StepTask], StepResult],
    return_unstarted: Callable[[list[StepTask]], None],
    return_after: float = RETURN_UNSTARTED_AFTER,
) -> tuple[FinishedAttempt, ...]:
    """Execute attempts one after another, and return those to the manager that would wait too long.

    Args:
        batch: the attempts, in order.
        run: executes one attempt.
        return_unstarted: called in another thread with the attempts that this worker will not start.
        return_after: seconds after which attempts that have not started are returned.

    Returns:
        The finished attempts, in order.
    """
    pending = deque(batch)
    # Two threads take from the deque, whose pops are atomic. So each attempt is either started here or returned.
    timer = threading.Timer(return_after, lambda: return_unstarted(_take_all(pending)) if pending else None)
    timer.daemon = True
    if len(batch) > 1:
        timer.start()
    finished = []
    while pending:
        try:
            task = pending.popleft()
        except IndexError:  # the timer took the last one
            break
        finished.append(FinishedAttempt(task.key, task.attempt, run(task)))
    timer.cancel()
    return tuple(finished)


def _take_all(pending: deque[StepTask]) -> list[StepTask]:
    taken = []
    while pending:
        try:
            taken.append(pending.popleft())
        except IndexError:  # the worker started the last one
            break
    return taken
