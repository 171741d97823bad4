"""The time by the clock of the API server, which all replicas share.

The status contains times that another replica compares with its own clock, and the API server adds times to objects.
A node whose clock is wrong or set back would miss deadlines or end attempts too early. So the operator follows the
`Date` header of the API server, and measures the time between two replies with its monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime

RESOLUTION_SECONDS = 1.0
"""The header has whole seconds, so the server's clock may show up to one second more."""


class ServerClock:
    """Follows the clock of the API server.

    Args:
        wall: returns seconds since 1970 by the clock of this machine, which is used before the first reply.
        monotonic: returns seconds since an arbitrary moment.
    """

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._monotonic() + self._offset

    def started(self) -> float:
        """Return the moment at which a request is sent, for `follow`."""
        return self._monotonic()

    def follow(self, date: str | None, sent: float) -> None:
        """Correct the clock by a reply, if the two differ by more than the header and the request allow.

        Args:
            date: the `Date` header of the reply, or None. An invalid one is ignored.
            sent: the moment at which the request was sent, by `started`.
        """
        seconds = _seconds(date)
        if seconds is None:
            return
        earliest = seconds - self._monotonic()
        latest = seconds + RESOLUTION_SECONDS - sent
        self._offset = min(max(self._offset, earliest), latest)


def _seconds(date: str | None) -> float | None:
    if not date:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
