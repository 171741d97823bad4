"""Waiting for what a foreign system does without saying so: look again up to a deadline, never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
PAUSE = 0.02


@overload
async def eventually(look: Callable[[], Awaitable[T | None]], timeout: float = 20.0) -> T: ...
@overload
async def eventually(look: Callable[[], T | None], timeout: float = 20.0) -> T: ...
async def eventually(look: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Call `look` until it returns something true, and return that.

    Args:
        look: a function or a coroutine function; it may raise AssertionError for "not yet", which is shown at the end.
        timeout: seconds until it fails.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        last: object
        try:
            found = look()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout} s: {last}")
        await asyncio.sleep(PAUSE)


def until(look: Callable[[], T | None], timeout: float = 120.0) -> T:
    """Like `eventually`, for code that has no event loop: drivers, steps and tests of the library."""
    deadline = time.monotonic() + timeout
    while True:
        last: object
        began = time.monotonic()
        try:
            found = look()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {last}")
        # A look that takes long is made less often: it takes processor time from what it waits for.
        time.sleep(max(PAUSE, time.monotonic() - began))
