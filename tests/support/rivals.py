"""Failpoints that pause or interrupt a process, so that a test can act as a rival at exactly this moment."""

from __future__ import annotations

import threading
from collections.abc import Callable


class StopAt:
    """Calls a function once, when a failpoint is reached for the first time.

    Args:
        point: name of the failpoint.
        act: the function. The caller of the failpoint continues after it.
    """

    def __init__(self, point: str, act: Callable[[], object]) -> None:
        self._point = point
        self._act: Callable[[], object] | None = act

    def reach(self, point: str) -> None:
        """Call the function at the first pass of the failpoint."""
        if point == self._point and self._act is not None:
            act, self._act = self._act, None
            act()

    @property
    def reached(self) -> bool:
        """Whether the failpoint was reached."""
        return self._act is None


class HoldAt:
    """Blocks every caller of a failpoint until the test continues them.

    Args:
        point: name of the failpoint.
    """

    def __init__(self, point: str) -> None:
        self._point = point
        self.reached = threading.Event()
        self._resumed = threading.Event()

    def reach(self, point: str) -> None:
        """Block at the failpoint."""
        if point == self._point and not self._resumed.is_set():
            self.reached.set()
            assert self._resumed.wait(30), f"the test did not continue the caller of {point} within 30 s"

    def resume(self) -> None:
        """Continue all blocked callers, and block none again."""
        self._resumed.set()


class Dies(BaseException):
    """Represents the death of the process. No code of the library catches it."""


def die() -> None:
    """Simulate the death of the process, as a function for `StopAt`."""
    raise Dies
