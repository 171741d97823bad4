"""Who may take a Lease: a decision about what was read, without clocks of other machines.

The adapter `lease` uses it for the election of a leader and for the claim of a namespace. A Lease expires if its record
did not change for its duration. The reader measures this by its own monotonic clock, so that wrong clocks do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass

RENEW_SHARE = 2 / 3
"""The share of a lease's duration within which its holder must renew it, or stop."""

RETRY_SHARE = 2 / 15
"""The share of a lease's duration between two attempts to take or renew it."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease contains.

    Attributes:
        holder: the identity of the holder; empty if the Lease was released.
        seconds: the duration for which the holder may be absent, in seconds.
        version: changes with every write of the Lease.
    """

    holder: str
    seconds: float
    version: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record, and when the reader first read this version of it.

    Attributes:
        record: the newest content of the Lease.
        since: the reader's monotonic time of the first read, in seconds.
    """

    record: LeaseRecord
    since: float


def sighted(before: Sighting | None, record: LeaseRecord, now: float) -> Sighting:
    """Return the sighting after another read.

    Args:
        before: the sighting of the previous read, or None.
        record: the record that was read.
        now: the monotonic time in seconds.
    """
    return before if before is not None and before.record == record else Sighting(record, now)


def may_take(sighting: Sighting, identity: str, now: float) -> bool:
    """Return whether `identity` may write itself into the Lease: it is free, expired, or held by `identity` already.

    Args:
        sighting: the newest read of the Lease.
        identity: the identity of the candidate.
        now: the monotonic time in seconds.
    """
    record = sighting.record
    return record.holder in ("", identity) or now - sighting.since >= record.seconds


@dataclass(frozen=True, slots=True)
class Durations:
    """The durations of one election, in seconds.

    Attributes:
        lease: another replica takes over if the lease was not renewed for this long.
        deadline: the leader stops if it could not renew the lease for this long. It is shorter than `lease`.
        retry: the time between two attempts to take or renew the lease.
    """

    lease: float
    deadline: float
    retry: float

    @classmethod
    def of(cls, seconds: float) -> Durations:
        """Return the durations for a lease of `seconds`; 15 gives 15, 10 and 2."""
        return cls(seconds, seconds * RENEW_SHARE, seconds * RETRY_SHARE)
