"""Waits for a condition of another system: checks it repeatedly up to a deadline, instead of sleeping a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
PAUSE = 0.02


@overload
async def eventually(check: Callable[[], Awaitable[T | None]], timeout: float = 20.0) -> T: ...
@overload
async def eventually(check: Callable[[], T | None], timeout: float = 20.0) -> T: ...
async def eventually(check: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Call `check` until it returns a true value, and return that value.

    Args:
        check: a function or a coroutine function. An AssertionError means "not yet"; the last one is reported.
        timeout: seconds after which an AssertionError is raised.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        last: object
        try:
            found = check()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if loop.time() > deadline:
            raise AssertionError(f"the condition is not met after {timeout} s: the last result was {last}")
        await asyncio.sleep(PAUSE)


def until(check: Callable[[], T | None], timeout: float = 120.0) -> T:
    """Do the same as `eventually` in code without an event loop: drivers, steps and tests of the library."""
    deadline = time.monotonic() + timeout
    while True:
        last: object
        began = time.monotonic()
        try:
            found = check()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition is not met after {timeout} s: the last result was {last}")
        # A slow check runs less often, because it takes processor time from what it waits for.
        time.sleep(max(PAUSE, time.monotonic() - began))
