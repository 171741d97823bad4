"""Failpoints of a reconciliation: they kill the operator, lose a response, or let another client write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from workflow_operator.errors import UnreachableError


class Killed(BaseException):
    """Simulates a kill of the process. It is a BaseException, so that no handler of the operator catches it."""


class KillOnce:
    """Kills the operator when it reaches a point for the first time.

    Attributes:
        visited: the points at which the operator was killed, in order.
        killed: set when the operator was killed; the test clears it when it starts the operator again.
    """

    def __init__(self) -> None:
        self.visited: list[str] = []
        self.killed = asyncio.Event()

    async def reach(self, point: str) -> None:
        """Kill the operator if it has not reached this point before."""
        if point not in self.visited:
            self.visited.append(point)
            self.killed.set()
            raise Killed(point)


class LoseOnce:
    """Loses the response to each kind of request once. The request takes effect, but the operator gets an error.

    Attributes:
        lost: the points at which a response was lost.
    """

    def __init__(self) -> None:
        self.lost: list[str] = []

    async def reach(self, point: str) -> None:
        """Raise if a request of a new kind took effect."""
        if (point == "patched" or point.startswith("after ")) and point not in self.lost:
            self.lost.append(point)
            raise UnreachableError(f"the response was lost {point}")


class ActAt:
    """Calls a function at a point, to simulate another client that acts there.

    Args:
        point: the name of the point.
        act: the function.
        times: how many times it is called.
    """

    def __init__(self, point: str, act: Callable[[], Awaitable[object]], times: int) -> None:
        self._point = point
        self._act = act
        self.remaining = times

    async def reach(self, point: str) -> None:
        """Call the function if the point matches."""
        if point == self._point and self.remaining:
            self.remaining -= 1
            await self._act()
