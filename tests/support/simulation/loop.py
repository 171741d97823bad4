"""An asyncio loop in virtual time, for many processes at once: which callback comes next is the seed's.

Time stands still while callbacks run and jumps to the next timer when none is left. A callback belongs to the process
that registered it (a context variable, which tasks hand down), so that a process can be stopped, continued and killed
between any two of them.
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


class Stuck(AssertionError):
    """Nothing will ever happen again, or not by the deadline, or without end at one moment."""


@dataclass(eq=False)
class Process:
    """What dies, stops and goes on together.

    Attributes:
        held: callbacks that came due while it was stopped.
    """

    name: str
    alive: bool = True
    stopped: bool = False
    held: list[Handle] = field(default_factory=list)


_current: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Handle:
    """A callback, now or at a time."""

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
        """Never call it."""
        self.canceled = True

    def cancelled(self) -> bool:
        """See asyncio.Handle."""
        return self.canceled

    def when(self) -> float:
        """See asyncio.TimerHandle."""
        return self.at


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop.

    Args:
        chance: draws which of the callbacks that are ready comes next.
        shuffled: whether it does; else they come in the order in which they became ready.

    Attributes:
        calls: callbacks called so far.
        complaints: what asyncio would have logged of exceptions that nobody took.
    """

    def __init__(self, chance: Random, *, shuffled: bool = True) -> None:
        self.calls = 0
        self.complaints: list[str] = []
        self._chance = chance
        self._shuffled = shuffled
        self._now = 0.0
        self._numbers = 0
        self._ready: list[Handle] = []
        self._timers: list[Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        """See asyncio."""
        handle = Handle(callback, args, context if context is not None else contextvars.copy_context())
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        """See asyncio."""
        handle = Handle(callback, args, context if context is not None else contextvars.copy_context())
        self._numbers += 1
        handle.at, handle.number = max(when, self._now), self._numbers
        heapq.heappush(self._timers, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        """See asyncio."""
        task = asyncio.Task(coro, loop=self, **kwargs)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        return task

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task of a process."""
        task: asyncio.Task[T] = context_of(process).run(self.create_task, work)
        return task

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return True

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See asyncio."""
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def go_on(self, process: Process) -> None:
        """A stopped process goes on: all that came due meanwhile comes at once."""
        process.stopped = False
        held, process.held = process.held, []
        self._ready += held

    def run(self, work: Coroutine[Any, Any, T], *, deadline: float, most_calls: int = 1_000_000) -> T:
        """Run until this work is done.

        Raises:
            Stuck: it will not be, or not by the deadline.
        """
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            main = self.create_task(work)
            while not main.done():
                self._next(deadline)
                self.calls += 1
                if self.calls > most_calls:
                    raise Stuck(f"{most_calls} callbacks by {self._now:.3f} s, and no end")
            result: T = main.result()
            return result
        finally:
            asyncio._set_running_loop(before)

    def close(self) -> None:
        """End what was never to be ended: coroutines of processes that were killed."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    try:
                        task.get_coro().close()
                    except RuntimeError as error:  # it awaits while it is being closed
                        self.complaints.append(str(error))
        finally:
            asyncio._set_running_loop(before)
        self._ready.clear()
        self._timers.clear()
        self._tasks.clear()

    def _next(self, deadline: float) -> None:
        timers, ready = self._timers, self._ready
        if not ready:
            if not timers:
                raise Stuck(f"nothing is left to happen at {self._now:.3f} s")
            if timers[0].at > deadline:
                raise Stuck(f"not done by {deadline:.0f} s")
            self._now = max(self._now, timers[0].at)
        while timers and timers[0].at <= self._now:
            ready.append(heapq.heappop(timers))
        if self._shuffled and len(ready) > 1:
            index = int(self._chance.random() * len(ready))
            ready[index], ready[-1] = ready[-1], ready[index]
            handle = ready.pop()
        else:
            handle = ready.pop(0)
        process = handle.process
        if handle.canceled or (process is not None and not process.alive):
            return
        if process is not None and process.stopped:
            process.held.append(handle)
            return
        handle.context.run(handle.call, *handle.args)


def answer(reply: asyncio.Future[T], result: T) -> None:
    """What arrives for whoever waits for it; the first to come counts."""
    if not reply.done():
        reply.set_result(result)


def context_of(process: Process | None) -> contextvars.Context:
    """A context whose callbacks belong to a process, or to nobody: the world outside all of them."""
    context = contextvars.Context()
    context.run(_current.set, process)
    return context
