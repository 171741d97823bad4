"""What a manager runs on: its clocks, and the threads that call the store.

A manager receives its runtime as an argument. The simulation passes another one, whose time advances only when all
tasks wait, and whose store calls take a time that depends on a seed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from workflow.errors import UnavailableError

T = TypeVar("T")

STORE_THREADS = 16


class Clock(Protocol):
    """A wall clock and a monotonic clock.

    The safety of a run never depends on them. They date records, and they decide when the engine acts.
    """

    def now(self) -> float:
        """Return the seconds since 1970. The value jumps if the clock of the machine is set."""

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary moment of this process. The value never decreases."""


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> float:
        """Return the seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock of the machine."""
        return time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()


class Threads(Protocol):
    """Runs blocking calls outside the event loop."""

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        """Return the result of the call, while the event loop of the caller continues.

        Raises:
            UnavailableError: `close` was called before.
        """

    async def close(self, last: Callable[[], object]) -> None:
        """Refuse new calls, wait until all running calls have returned, then run one last call."""


class ThreadPool:
    """`Threads` of the operating system."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """Run the call in a thread of the pool.

        Raises:
            UnavailableError: the pool is closed.
        """
        if self._closed:
            raise UnavailableError("cannot call the store: this manager is leaving; repeat the request at a new one")
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def close(self, last: Callable[[], object]) -> None:
        """Wait for the running calls, then run the last one."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(last)


@dataclass(frozen=True)
class Runtime:
    """The clocks and threads of one manager.

    Attributes:
        clock: a wall clock and a monotonic clock.
        threads: creates a set of threads. A manager calls it once for its runs and once for its heartbeat.
    """

    clock: Clock = SYSTEM_CLOCK
    threads: Callable[[], Threads] = ThreadPool


SYSTEM_RUNTIME = Runtime()
"""The runtime in production: the clocks of the machine and threads of the operating system."""
