"""Failpoints that block or interrupt the calling thread, so that a test can act at exactly this moment."""

from __future__ import annotations

import threading
from collections.abc import Callable


class CallAt:
    """Calls a function when a failpoint is reached for the first time.

    Args:
        point: the name of the failpoint.
        act: the function. When it returns, the caller of the failpoint continues.
    """

    def __init__(self, point: str, act: Callable[[], object]) -> None:
        self._point = point
        self._act: Callable[[], object] | None = act

    def reach(self, point: str) -> None:
        """Call the function when the failpoint is reached for the first time."""
        if point == self._point and self._act is not None:
            act, self._act = self._act, None
            act()

    @property
    def reached(self) -> bool:
        """Whether the failpoint was reached."""
        return self._act is None


class BlockAt:
    """Blocks every caller of a failpoint until the test calls `resume`.

    Args:
        point: the name of the failpoint.
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
        """Continue all blocked callers. Later callers are not blocked."""
        self._resumed.set()


class Dies(BaseException):
    """Represents the death of the process. No code of the library catches it."""


def die() -> None:
    """Simulate the death of the process, as a function for `CallAt`."""
    raise Dies
