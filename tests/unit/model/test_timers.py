"""The remaining time of a sleep by the clock of another manager."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.model import timers

DAY = 86_400.0
STARTED = 1_000_000.0

CASES = {
    "at its start": (DAY, STARTED, DAY),
    "at half of its duration": (DAY, STARTED + DAY / 2, DAY / 2),
    "at its end": (DAY, STARTED + DAY, 0.0),
    "long after its end": (DAY, STARTED + 9 * DAY, 0.0),
    "before its start, since the clock was set back": (DAY, STARTED - 9 * DAY, DAY),
    "a sleep of zero seconds": (0.0, STARTED - 5.0, 0.0),
}


@pytest.mark.parametrize(("seconds", "now", "expected"), CASES.values(), ids=CASES.keys())
def test_remaining_time_of_a_sleep(seconds: float, now: float, expected: float) -> None:
    assert timers.left(seconds, STARTED + seconds, now) == expected


seconds = st.floats(0.0, 1e9)


@given(seconds, st.floats(0.0, 4e9), st.floats(0.0, 4e9), st.floats(0.0, 1e9))
def test_remaining_time_is_bounded_and_never_grows(whole: float, started: float, now: float, later: float) -> None:
    left = timers.left(whole, started + whole, now)
    assert 0.0 <= left <= whole
    assert timers.left(whole, started + whole, now + later) <= left, "later calls never return more"
