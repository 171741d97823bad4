"""Counts the heads that do not reply. If many become unreachable together, the operator suspects its own network.

`reconcile.py` records each request to a head, and passes the report to `decide`. The times are those of one process, so
that a change of the clock has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class _Asked:
    at: float
    unreachable_since: float | None


@dataclass(frozen=True, slots=True)
class HeadCensus:
    """The recent requests to all heads.

    Attributes:
        started: when this process began to ask, in seconds of its monotonic clock.
        heads: the last request to each head, by the UID of its pod.
    """

    started: float
    heads: Mapping[str, _Asked] = field(default_factory=dict)

    def record(self, head: str, replied: bool, now: float) -> HeadCensus:
        """Return the census with another request.

        Args:
            head: the UID of the head pod.
            replied: whether the head replied, even if it refused the request.
            now: seconds of the monotonic clock.
        """
        recent = {uid: asked for uid, asked in self.heads.items() if now - asked.at <= WINDOW_SECONDS}
        before = recent.get(head)
        unreachable_since = now if before is None or before.unreachable_since is None else before.unreachable_since
        recent[head] = _Asked(now, None if replied else unreachable_since)
        return HeadCensus(self.started, recent)

    def report(self, head: str, now: float) -> HeadsReport:
        """Return what the census shows about a head.

        Args:
            head: the UID of the head pod.
            now: seconds of the monotonic clock.
        """
        own = self.heads.get(head)
        since = own.unreachable_since if own is not None else None
        together = 0
        if since is not None:
            together = sum(
                other.unreachable_since is not None and abs(other.unreachable_since - since) <= WINDOW_SECONDS
                for other in self.heads.values()
            )
        return HeadsReport(len(self.heads), together, now - self.started)

    @property
    def unreachable(self) -> int:
        """The number of heads that did not reply to the last request."""
        return sum(asked.unreachable_since is not None for asked in self.heads.values())

    @property
    def suspects_network(self) -> bool:
        """Whether the operator suspects its own network because of any head."""
        newest = max((asked.at for asked in self.heads.values()), default=self.started)
        return any(self.report(head, newest).suspects_network for head in self.heads)
