"""Who may take a Lease, by the reader's own clock."""

from __future__ import annotations

import pytest

from workflow_operator.core.leases import Durations, LeaseRecord, Sighting, may_take, sighted

RECORD = LeaseRecord("one", 15.0, "7")


@pytest.mark.parametrize(
    ("record", "identity", "now", "expected"),
    [
        pytest.param(RECORD, "two", 114.9, False, id="held by another"),
        pytest.param(RECORD, "two", 115.0, True, id="expired"),
        pytest.param(RECORD, "one", 100.0, True, id="own"),
        pytest.param(LeaseRecord("", 15.0, "8"), "two", 100.0, True, id="released"),
        pytest.param(LeaseRecord("one", 0.0, "8"), "two", 100.0, True, id="without a duration"),
    ],
)
def test_may_take(record: LeaseRecord, identity: str, now: float, expected: bool) -> None:
    assert may_take(Sighting(record, 100.0), identity, now) is expected


def test_unchanged_record_keeps_its_first_sighting() -> None:
    first = sighted(None, RECORD, 100.0)
    assert sighted(first, RECORD, 110.0) == first
    assert sighted(first, LeaseRecord("one", 15.0, "8"), 110.0).since == 110.0


def test_leader_stops_before_another_replica_may_start() -> None:
    durations = Durations.of(15)
    assert (durations.lease, round(durations.deadline, 3), round(durations.retry, 3)) == (15, 10, 2)
