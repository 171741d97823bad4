"""Points that stop whoever reaches them, so that a test puts a rival exactly there."""

from __future__ import annotations

import threading
from collections.abc import Callable


class StopAt:
    """Does something once, at the first time that one point is reached, before whoever reached it goes on.

    Args:
        point: which.
        act: what happens meanwhile.
    """

    def __init__(self, point: str, act: Callable[[], object]) -> None:
        self._point = point
        self._act: Callable[[], object] | None = act

    def reach(self, point: str) -> None:
        """See the port."""
        if point == self._point and self._act is not None:
            act, self._act = self._act, None
            act()

    @property
    def reached(self) -> bool:
        """Whether it did."""
        return self._act is None


class HoldAt:
    """Holds whoever reaches one point until the test lets go.

    Args:
        point: which.
    """

    def __init__(self, point: str) -> None:
        self._point = point
        self.here = threading.Event()
        self._go = threading.Event()

    def reach(self, point: str) -> None:
        """See the port."""
        if point == self._point and not self._go.is_set():
            self.here.set()
            assert self._go.wait(30), f"nobody let go of {point}"

    def let_go(self) -> None:
        """Whoever is held goes on, and nobody is held again."""
        self._go.set()


class Dies(BaseException):
    """Stands for the end of the process; nothing in the library catches it."""


def die() -> None:
    """What `StopAt` does where the process is meant to end."""
    raise Dies
