"""Counts the heads that do not reply. If many become unreachable together, the operator suspects its own network.

`reconcile.py` records each request to a head, and passes the report to `decide`. The times are those of one process, so
that a change of the clock has no effect.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
"""Heads that became unreachable within this time became unreachable together.

A head that was not asked for as long is forgotten.
"""

MIN_UNREACHABLE = 3
"""Fewer unreachable heads never make the network suspect."""


@dataclass(frozen=True, slots=True)
class HeadsReport:
    """What the census shows about one unreachable head.

    Attributes:
        asked: the number of heads that were asked recently.
        unreachable: the number of heads among them that became unreachable together with this one, including it.
        observed_seconds: how long this process has asked heads, in seconds.
    """

    asked: int
    unreachable: int
    observed_seconds: float

    @property
    def suspects_network(self) -> bool:
        """Whether at least three heads, and at least half of all, became unreachable together."""
        return self.unreachable >= MIN_UNREACHABLE and 2 * self.unreachable >= self.asked

    @property
    def is_settled(self) -> bool:
        """Whether this process has asked heads long enough to recognize a failure of its own network."""
        return self.observed_seconds >= WINDOW_SECONDS


class HeadCensus:
    """The recent requests to all heads. A request costs constant time, unless many heads are unreachable.

    Args:
        started: when this process began to ask, in seconds of its monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._asked: OrderedDict[str, float] = OrderedDict()  # the time of the last request, the oldest first
        self._unreachable: dict[str, float] = {}  # the time of the first request without a reply

    def record(self, head: str, replied: bool, now: float) -> None:
        """Record another request.

        Args:
            head: the UID of the head pod.
            replied: whether the head replied, even if it refused the request.
            now: seconds of the monotonic clock.
        """
        while self._asked and now - next(iter(self._asked.values())) > WINDOW_SECONDS:
            forgotten, _ = self._asked.popitem(last=False)
            self._unreachable.pop(forgotten, None)
        self._asked[head] = now
        self._asked.move_to_end(head)
        if replied:
            self._unreachable.pop(head, None)
        else:
            self._unreachable.setdefault(head, now)

    def report(self, head: str, now: float) -> HeadsReport:
        """Return what the census shows about a head.

        Args:
            head: the UID of the head pod.
            now: seconds of the monotonic clock.
        """
        since = self._unreachable.get(head)
        together = 0
        if since is not None:
            together = sum(abs(other - since) <= WINDOW_SECONDS for other in self._unreachable.values())
        return HeadsReport(len(self._asked), together, now - self._started)

    @property
    def unreachable(self) -> int:
        """The number of heads that did not reply to the last request."""
        return len(self._unreachable)

    @property
    def suspects_network(self) -> bool:
        """Whether the operator suspects its own network because of any head."""
        since = sorted(self._unreachable.values())
        if not HeadsReport(len(self._asked), len(since), 0.0).suspects_network:
            return False
        return any(self._together(since, index) for index in range(len(since)))

    def _together(self, since: Sequence[float], index: int) -> bool:
        first = bisect.bisect_left(since, since[index] - WINDOW_SECONDS)
        last = bisect.bisect_right(since, since[index] + WINDOW_SECONDS)
        return HeadsReport(len(self._asked), last - first, 0.0).suspects_network
