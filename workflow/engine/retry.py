"""Retries of calls that fail, and the backoff between them. All parts of the engine use this module.

A store that is unavailable never fails a run. The engine repeats the call with a fixed pause until the store answers.
"""

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
        initial: the delay after the first failure, in seconds.
        maximum: the longest delay, in seconds.
    """

    initial: float
    maximum: float

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after this number of consecutive failures. Without a failure it is 0.0."""
        if failures < 1:
            return 0.0
        doublings = min(failures - 1, 64)  # more would overflow a float
        return min(self.initial * 2.0**doublings, self.maximum)


def retry_while_unavailable(call: Callable[[], T], pause: float, report: Report) -> T:
    """Return the result of a blocking call. It is repeated as long as it raises StoreUnavailableError.

    Args:
        call: the call to repeat. Any other error is raised to the caller.
        pause: seconds between a failed call and the next one.
        report: called with each StoreUnavailableError, for example to log it.
    """
    while True:
        try:
            return call()
        except StoreUnavailableError as error:
            report(error)
        time.sleep(pause)


async def async_retry_while_unavailable(call: Callable[[], Awaitable[T]], pause: float, report: Report) -> T:
    """Return the result of an asynchronous call. It is repeated as long as it raises StoreUnavailableError.

    Args:
        call: returns a new awaitable for each repetition. Any other error is raised to the caller.
        pause: seconds between a failed call and the next one.
        report: called with each StoreUnavailableError, for example to log it.
    """
    while True:
        try:
            return await call()
        except StoreUnavailableError as error:
            report(error)
        await asyncio.sleep(pause)
