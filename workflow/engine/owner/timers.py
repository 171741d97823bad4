"""The timers that end the sleeping steps of one run. Used by `planning`.

They follow the monotonic clock of the event loop, so setting the clock of the machine does not change a sleep.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Final

from workflow.model.graph import Value

_NONE: Final = pickle.dumps(None)
SLEEP_VALUE: Final = Value(inline=_NONE, size=len(_NONE))
"""The value of every step that slept: a pickled None."""


class StepTimers:
    """At most one timer for each step. A timer costs no task and no thread while it waits.

    All methods must be called on the same event loop.
    """

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def set(self, step_id: str, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` once after so many seconds, unless the timer is stopped before."""

        def expire() -> None:
            self._handles.pop(step_id, None)
            act()

        self._handles[step_id] = asyncio.get_running_loop().call_later(seconds, expire)

    def stop(self, step_id: str) -> None:
        """Stop the timer of a step, if it has one."""
        handle = self._handles.pop(step_id, None)
        if handle is not None:
            handle.cancel()

    def stop_all(self) -> None:
        """Stop the timers of all steps."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
