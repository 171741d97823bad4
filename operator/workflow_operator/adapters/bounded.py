"""Calls for which a round waits a limited time. A call that takes longer continues, and later rounds wait again.

So a store that hangs delays a round by this time only. While a call runs, it is not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from workflow_operator.errors import UnreachableError

T = TypeVar("T")


class BoundedCalls:
    """Runs calls by key, at most one for each key at a time.

    Args:
        seconds: how long a caller waits for a call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def call(self, key: Hashable, start: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call. If an earlier call with this key still runs, wait for that one instead.

        Args:
            key: equal for calls that do the same.
            start: begins the call.

        Raises:
            UnreachableError: the call did not finish in time; it continues.
        """
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(_awaited(start))
            task.add_done_callback(_retrieve_exception)
        done, _ = await asyncio.wait({task}, timeout=self._seconds)
        if not done:
            raise UnreachableError(
                f"the store has not finished a change for {self._seconds:.0f} s; the operator waits for it again"
            )
        if self._running.get(key) is task:
            del self._running[key]
        result: T = task.result()
        return result

    def close(self) -> None:
        """Cancel all calls."""
        for task in self._running.values():
            task.cancel()
        self._running.clear()


async def _awaited(start: Callable[[], Awaitable[T]]) -> T:
    return await start()


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Mark the exception of a task as retrieved, or asyncio logs it if no round waits any more."""
    if not task.cancelled():
        task.exception()
