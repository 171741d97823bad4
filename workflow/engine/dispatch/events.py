"""Dispatches attempts of EVENT steps to an event host, and to a new host if that one is lost.

Many listeners share a host, so the loss of a host is not the fault of a listener. Their waits are started again after
each such loss, with a backoff. This module does not import Ray: `event_hosts` creates the hosts. Everything runs on the
engine's event loop, and nothing blocks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workflow.engine.messages import StepResult, StepTask, TaskKey
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.retry import Backoff

HOST_BACKOFF = Backoff(initial=0.5, maximum=32.0)
"""Delay before waits are started on the next host. It grows with each host that is lost before it returned a result."""

logger = logging.getLogger(__name__)


class Hosts(Protocol):
    """Creates event hosts and calls them. A host is the object that `open` returns."""

    def open(self) -> Any:
        """Create a host."""

    def listen(self, host: Any, task: StepTask, answer: Callable[[StepResult | None], None]) -> None:
        """Start a wait on a host.

        Args:
            task: an attempt of an EVENT step.
            answer: called on the engine's loop with the result, or with None if the host was lost.
        """

    def stop(self, host: Any, waits: Sequence[TaskKey]) -> None:
        """Stop waits on a host. A result that still arrives for them is ignored."""


@dataclass(eq=False, slots=True)
class _Wait:
    run: RunLoop
    task: StepTask


class EventDispatcher:
    """All waits of one manager.

    Args:
        hosts: creates hosts. The first one is created when it is needed.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._host: Any = None
        self._lost_hosts = 0
        self._waits: dict[TaskKey, _Wait] = {}

    def start(self, run: RunLoop, task: StepTask) -> None:
        """Start one attempt; see `Runner`."""
        wait = _Wait(run, task)
        self._waits[wait.task.key] = wait
        self._dispatch(wait)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Cancel attempts; see `Runner`."""
        keys = [(run.address.run_uuid, step_id) for step_id in step_ids]
        stopped = [key for key in keys if self._waits.pop(key, None) is not None]
        if stopped and self._host is not None:
            self._hosts.stop(self._host, stopped)

    def _dispatch(self, wait: _Wait) -> None:
        if self._is_current(wait):
            if self._host is None:
                self._host = self._hosts.open()
            self._hosts.listen(self._host, wait.task, functools.partial(self._answered, self._host, wait))

    def _answered(self, host: Any, wait: _Wait, result: StepResult | None) -> None:
        if not self._is_current(wait):  # the wait was stopped, so a missing result does not mean that its host is lost
            return
        if result is not None:
            self._lost_hosts = 0
            del self._waits[wait.task.key]
            wait.run.step_done(wait.task.step_id, wait.task.attempt, result)
            return
        if host is self._host:
            self._host = None
            self._lost_hosts += 1
            logger.warning(
                "the process of the event listeners is lost; its %d waits are started again in another process",
                len(self._waits),
            )
        delay = HOST_BACKOFF.delay(max(self._lost_hosts, 1))
        asyncio.get_running_loop().call_later(delay, self._dispatch, wait)

    def _is_current(self, wait: _Wait) -> bool:
        """Return whether a wait was neither stopped nor replaced by a later attempt of its step."""
        return self._waits.get(wait.task.key) is wait
