"""A leased worker: executes the tries that the manager hands over until it has nothing more. Runs as a Ray task."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import ray

from workflow.engine.link import Link, LinkAddress
from workflow.engine.messages import FinishedAttempt, StepResult, StepTask
from workflow.engine.worker.execution import execute

HELD = 0.02
"""Seconds after which tries that wait here behind another are given back. Several are handed over together where steps
of their function were short; one that is not must not hold up the others, who may be what it waits for."""

logger = logging.getLogger(__name__)


def serve(manager: Any, number: str, address: LinkAddress | None) -> None:
    """Be a leased worker.

    Args:
        manager: handle of the manager's actor.
        number: of the lease.
        address: where the manager listens; None: ask it by actor calls only.
    """
    line = _Line(manager, number, address)
    done: tuple[FinishedAttempt, ...] = ()
    turn = 0
    try:
        while batch := line.exchange(turn, done):
            turn += 1
            done = execute_all(batch, execute, functools.partial(line.return_unstarted, turn))
    finally:
        line.hang_up()


class _Line:
    """To the manager: the direct connection as long as it holds, actor calls otherwise."""

    def __init__(self, manager: Any, number: str, address: LinkAddress | None) -> None:
        self._manager = manager
        self._number = number
        self._link: Link | None = None
        try:
            self._link = Link(address) if address is not None else None
        except OSError as error:
            logger.info("lease %s: no direct connection to the manager: %s", number, error)

    def exchange(self, turn: int, done: tuple[FinishedAttempt, ...]) -> tuple[StepTask, ...]:
        batch = None
        if self._link is not None:
            try:
                batch = self._link.exchange(self._number, turn, done)
            except OSError as error:
                logger.info("lease %s goes on by actor calls: %s", self._number, error)
                self.hang_up()
        if batch is None:
            batch = ray.get(self._manager.exchange.remote(self._number, turn, done))
        return batch

    def return_unstarted(self, turn: int, rest: list[StepTask]) -> None:
        self._manager.return_unstarted.remote(self._number, turn, tuple(task.key for task in rest))

    def hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def execute_all(
    batch: Sequence[StepTask],
    run: Callable[[StepTask], StepResult],
    return_unstarted: Callable[[list[StepTask]], None],
    held: float = HELD,
) -> tuple[FinishedAttempt, ...]:
    """Execute tries one after another; those that wait too long are given back, and not begun here.

    Args:
        batch: the tries, in order.
        run: executes one.
        give_back: told, on a thread of its own, which ones are not begun here.
        held: seconds after which what still waits is given back.

    Returns:
        What was executed, in order.
    """
    waiting = deque(batch)
    # Both sides take from the deque, whose pops are atomic: each try is either begun here or given back.
    alarm = threading.Timer(held, lambda: return_unstarted(_take_all(waiting)) if waiting else None)
    alarm.daemon = True
    if len(batch) > 1:
        alarm.start()
    done = []
    while waiting:
        try:
            task = waiting.popleft()
        except IndexError:
            break
        done.append(FinishedAttempt(task.key, task.attempt, run(task)))
    alarm.cancel()
    return tuple(done)


def _take_all(waiting: deque[StepTask]) -> list[StepTask]:
    taken = []
    while waiting:
        try:
            taken.append(waiting.popleft())
        except IndexError:
            break
    return taken
