"""An asyncio loop in virtual time for several simulated processes. A seed decides the order of the callbacks.

Time does not pass while callbacks run. When no callback is ready, time jumps to the next timer. A callback belongs to
the process that registered it; tasks inherit the process through a context variable. A process can therefore be
stopped, continued and killed between any two callbacks.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class StuckError(AssertionError):
    """The simulation cannot finish: nothing is left to do, the deadline passed, or there were too many callbacks."""


@dataclass(eq=False)
class Process:
    """A simulated process, which is killed, stopped and continued as a whole.

    Attributes:
        pending: callbacks that became due while it was stopped.
    """

    name: str
    alive: bool = True
    stopped: bool = False
    pending: list[Handle] = field(default_factory=list)


_current: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Handle:
    """A scheduled callback."""

    __slots__ = ("args", "at", "call", "canceled", "context", "number", "process")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.call = call
        self.args = args
        self.context = context
        self.process: Process | None = context.get(_current)
        self.canceled = False
        self.at = 0.0
        self.number = 0

    def __lt__(self, other: Handle) -> bool:
        return (self.at, self.number) < (other.at, other.number)

    def cancel(self) -> None:
        """Do not call the callback."""
        self.canceled = True

    def cancelled(self) -> bool:
        return self.canceled

    def when(self) -> float:
        return self.at


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop of one simulation.

    Args:
        chance: chooses the next callback of those that are ready.
        shuffled: False keeps the order in which callbacks became ready.

    Attributes:
        calls: number of callbacks called so far.
        unhandled_errors: exceptions that no code handled, as asyncio would have logged them.
    """

    def __init__(self, chance: Random, *, shuffled: bool = True) -> None:
        self.calls = 0
        self.unhandled_errors: list[str] = []
        self._random = chance
        self._shuffled = shuffled
        self._now = 0.0
        self._numbers = 0
        self._ready: list[Handle] = []
        self._timers: list[Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Return the virtual seconds since the start."""
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        handle = Handle(callback, args, context if context is not None else contextvars.copy_context())
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        handle = Handle(callback, args, context if context is not None else contextvars.copy_context())
        self._numbers += 1
        handle.at, handle.number = max(when, self._now), self._numbers
        heapq.heappush(self._timers, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        task = asyncio.Task(coro, loop=self, **kwargs)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        return task

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of a process."""
        task: asyncio.Task[T] = context_of(process).run(self.create_task, work)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled_errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def resume(self, process: Process) -> None:
        """Continue a stopped process. All callbacks that became due meanwhile are ready at once."""
        process.stopped = False
        pending, process.pending = process.pending, []
        self._ready += pending

    def run(self, work: Coroutine[Any, Any, T], *, deadline: float, most_calls: int = 1_000_000) -> T:
        """Run until a coroutine is done, and return its result.

        Args:
            work: the coroutine.
            deadline: virtual seconds since the start.
            most_calls: maximum number of callbacks.

        Raises:
            StuckError: the coroutine cannot finish, or not before the deadline.
        """
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            main = self.create_task(work)
            while not main.done():
                self._next(deadline)
                self.calls += 1
                if self.calls > most_calls:
                    raise StuckError(f"not done after {most_calls} callbacks, at {self._now:.3f} s")
            result: T = main.result()
            return result
        finally:
            asyncio._set_running_loop(before)

    def close(self) -> None:
        """Close the coroutines of killed processes, which would never finish."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    try:
                        task.get_coro().close()
                    except RuntimeError as error:  # the coroutine awaits while it is being closed
                        self.unhandled_errors.append(str(error))
        finally:
            asyncio._set_running_loop(before)
        self._ready.clear()
        self._timers.clear()
        self._tasks.clear()

    def _next(self, deadline: float) -> None:
        timers, ready = self._timers, self._ready
        if not ready:
            if not timers:
                raise StuckError(f"no callback is left at {self._now:.3f} s")
            if timers[0].at > deadline:
                raise StuckError(f"not done before the deadline of {deadline:.0f} s")
            self._now = max(self._now, timers[0].at)
        while timers and timers[0].at <= self._now:
            ready.append(heapq.heappop(timers))
        if self._shuffled and len(ready) > 1:
            index = int(self._random.random() * len(ready))
            ready[index], ready[-1] = ready[-1], ready[index]
            handle = ready.pop()
        else:
            handle = ready.pop(0)
        process = handle.process
        if handle.canceled or (process is not None and not process.alive):
            return
        if process is not None and process.stopped:
            process.pending.append(handle)
            return
        handle.context.run(handle.call, *handle.args)


def resolve(reply: asyncio.Future[T], result: T) -> None:
    """Set the result of a future, unless it already has one."""
    if not reply.done():
        reply.set_result(result)


def context_of(process: Process | None) -> contextvars.Context:
    """Return a context whose callbacks belong to a process. None means the environment outside all processes."""
    context = contextvars.Context()
    context.run(_current.set, process)
    return context
