"""The engine's clocks, as a port: what it reads is given to it, so that a test can let a day pass at once.

Neither clock decides what is safe; they tell people when something happened, and the engine when to try.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for people, one for spans."""

    def now(self) -> float:
        """Seconds since 1970; jumps where somebody sets the machine's clock."""

    def monotonic(self) -> float:
        """Seconds since some moment of this process; never goes back."""


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        """See the port."""
        return time.time()

    def monotonic(self) -> float:
        """See the port."""
        return time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()
