"""Waiting for what a foreign system does without saying so: look again up to a deadline, never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE = 0.02


async def eventually(look: Callable[[], T | Awaitable[T | None] | None], timeout: float = 20.0) -> T:
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
