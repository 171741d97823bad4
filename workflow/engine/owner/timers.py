"""The alarms of one run: what wakes its sleeping steps, on the loop's own clock, which nobody sets. For `run_loop`."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Final

from workflow.model.graph import Value

_NONE: Final = pickle.dumps(None)
NOTHING: Final = Value(inline=_NONE, size=len(_NONE))
"""The value of a step that slept: None."""


class StepTimers:
    """One alarm a step; nothing runs while it waits. Of the loop it is made for."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def set(self, step_id: str, seconds: float, act: Callable[[], None]) -> None:
        """Act after so many seconds, once."""

        def ring() -> None:
            self._handles.pop(step_id, None)
            act()

        self._handles[step_id] = asyncio.get_running_loop().call_later(seconds, ring)

    def stop(self, step_id: str) -> None:
        """Stop a step's alarm, if it has one."""
        handle = self._handles.pop(step_id, None)
        if handle is not None:
            handle.cancel()

    def stop_all(self) -> None:
        """Stop all."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
