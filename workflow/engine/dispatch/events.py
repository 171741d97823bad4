"""Has event listeners wait: hands the tries of EVENT steps to a host, and to the next one where that one is lost.

A wait has nothing to do with the death of its host, which others' listeners share: it is begun anew, as often as that
happens, more slowly each time. Pure of Ray: `listener_host` makes hosts. All on the engine's loop, nothing blocks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from workflow.engine.messages import StepResult, StepTask, TaskKey
from workflow.engine.owner.run_loop import RunLoop

FIRST_PAUSE: Final = 0.5
"""Seconds before waits are handed to the next host; doubled with each host that is lost and has answered nothing."""

DOUBLINGS: Final = 6

logger = logging.getLogger(__name__)


class Hosts(Protocol):
    """Makes hosts of listeners and talks to them; a host is whatever `open` returns."""

    def open(self) -> Any:
        """A new host."""

    def listen(self, host: Any, task: StepTask, answer: Callable[[StepResult | None], None]) -> None:
        """Have it wait; `answer` is called on the engine's loop: with None where the host was lost."""

    def stop(self, host: Any, waits: Sequence[TaskKey]) -> None:
        """Have these waits stopped; what is still answered for them means nothing."""


@dataclass(eq=False, slots=True)
class _Wait:
    run: RunLoop
    task: StepTask


class EventDispatcher:
    """All waits of one manager.

    Args:
        hosts: makes hosts, the first when it is needed.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._host: Any = None
        self._lost = 0
        self._waits: dict[TaskKey, _Wait] = {}

    def start(self, run: RunLoop, task: StepTask) -> None:
        """Begin one try: see Runner."""
        wait = _Wait(run, task)
        self._waits[wait.task.key] = wait
        self._hand(wait)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop these tries: see Runner."""
        keys = [(run.address.run_uuid, step_id) for step_id in step_ids]
        stopped = [key for key in keys if self._waits.pop(key, None) is not None]
        if stopped and self._host is not None:
            self._hosts.stop(self._host, stopped)

    def _hand(self, wait: _Wait) -> None:
        if self._waits.get(wait.task.key) is wait:
            if self._host is None:
                self._host = self._hosts.open()
            self._hosts.listen(self._host, wait.task, functools.partial(self._answered, self._host, wait))

    def _answered(self, host: Any, wait: _Wait, result: StepResult | None) -> None:
        key = wait.task.key
        if self._waits.get(key) is not wait:  # it was stopped, which says nothing of its host
            return
        if result is not None:
            self._lost = 0
            del self._waits[key]
            wait.run.step_done(wait.task.step_id, wait.task.attempt, result)
            return
        if host is self._host:
            self._host = None
            self._lost += 1
            logger.warning("the host of event listeners is lost; %d waits begin anew", len(self._waits))
        pause = FIRST_PAUSE * 2 ** min(max(self._lost - 1, 0), DOUBLINGS)
        asyncio.get_running_loop().call_later(pause, self._hand, wait)
