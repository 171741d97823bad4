"""What a manager runs on: its clocks, and the threads in which it calls the store.

Given to it, so that the simulation can put a machine of its own under the very same engine, where time passes when
nothing is left to do and a call of the store takes as long as a seed says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from workflow.engine.owner.clock import SYSTEM_CLOCK, Clock
from workflow.errors import UnavailableError

T = TypeVar("T")

STORE_THREADS = 16


class Threads(Protocol):
    """Runs what blocks elsewhere."""

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        """The call's result; the caller's loop goes on meanwhile. Raises Unavailable once they are closed."""

    async def close(self, last: Callable[[], object]) -> None:
        """Run one last call behind all that are on their way, and no other after it."""


class ThreadPool:
    """A pool of real threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """See the port."""
        if self._closed:
            raise UnavailableError("the manager that was asked is leaving; make it anew")
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def close(self, last: Callable[[], object]) -> None:
        """See the port."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(last)


@dataclass(frozen=True)
class Runtime:
    """What one manager runs on.

    Attributes:
        clock: its clocks.
        threads: makes the threads of one manager.
    """

    clock: Clock = SYSTEM_CLOCK
    threads: Callable[[], Threads] = ThreadPool


SYSTEM_RUNTIME = Runtime()
"""What production runs on."""
