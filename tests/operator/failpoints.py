"""What tests do at the named points of a round: kill the operator, lose an answer, let a rival write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from workflow_operator.errors import UnreachableError


class Killed(BaseException):
    """The process is gone at this point: nothing after it happens, nothing is caught."""


class KillOnce:
    """Kills the operator the first time it comes to each point.

    Attributes:
        visited: points at which it was killed, in order.
        struck: set when it was killed; cleared by whoever starts it again.
    """

    def __init__(self) -> None:
        self.visited: list[str] = []
        self.struck = asyncio.Event()

    async def reach(self, point: str) -> None:
        """Kill where the point is new."""
        if point not in self.visited:
            self.visited.append(point)
            self.struck.set()
            raise Killed(point)


class LoseOnce:
    """Loses the answer to each kind of effect once: it took place, and the operator is told that nobody answered.

    Attributes:
        lost: the points at which an answer was lost.
    """

    def __init__(self) -> None:
        self.lost: list[str] = []

    async def reach(self, point: str) -> None:
        """Fail where an effect of a new kind took place."""
        if (point == "patched" or point.startswith("after ")) and point not in self.lost:
            self.lost.append(point)
            raise UnreachableError(f"the answer was lost {point}")


class Rival:
    """Lets somebody else act at a point, a number of times.

    Args:
        point: where.
        act: what the rival does.
        times: how often.
    """

    def __init__(self, point: str, act: Callable[[], Awaitable[object]], times: int) -> None:
        self._point = point
        self._act = act
        self.left = times

    async def reach(self, point: str) -> None:
        """Let the rival act."""
        if point == self._point and self.left:
            self.left -= 1
            await self._act()
