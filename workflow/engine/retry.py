"""One way to wait for a store that is unavailable, and one backoff, for all parts of the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from workflow.errors import StoreUnavailableError

T = TypeVar("T")

Report = Callable[[StoreUnavailableError], None]
"""Called with the error of each failed call, before the pause."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A delay that doubles with each consecutive failure.

    Attributes:
        initial: seconds after the first failure.
        maximum: seconds that the delay never exceeds.
    """

    initial: float
    maximum: float

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after so many consecutive failures; 0.0 if there was none."""
        if failures < 1:
            return 0.0
        return float(min(self.initial * 2.0 ** min(failures - 1, 64), self.maximum))


def retry_while_unavailable(call: Callable[[], T], pause: float, report: Report) -> T:
    """Return the result of a blocking call, repeated for as long as the store is unavailable.

    Args:
        call: the call; any error but StoreUnavailableError ends the loop.
        pause: seconds between two calls.
        report: called with each error, so that it can be logged.
    """
    while True:
        try:
            return call()
        except StoreUnavailableError as error:
            report(error)
        time.sleep(pause)


async def async_retry_while_unavailable(call: Callable[[], Awaitable[T]], pause: float, report: Report) -> T:
    """Like `retry_while_unavailable`, for a coroutine function; blocks nothing."""
    while True:
        try:
            return await call()
        except StoreUnavailableError as error:
            report(error)
        await asyncio.sleep(pause)
