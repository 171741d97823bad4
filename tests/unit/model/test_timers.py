"""How much of a sleep is left, by another manager's clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.model import timers

DAY = 86_400.0
BEGAN = 1_000_000.0

CASES = {
    "at once": (DAY, BEGAN, DAY),
    "half of it": (DAY, BEGAN + DAY / 2, DAY / 2),
    "just over": (DAY, BEGAN + DAY, 0.0),
    "long over": (DAY, BEGAN + 9 * DAY, 0.0),
    "the clock was set back behind its beginning": (DAY, BEGAN - 9 * DAY, DAY),
    "none": (0.0, BEGAN - 5.0, 0.0),
}


@pytest.mark.parametrize(("seconds", "now", "expected"), CASES.values(), ids=CASES.keys())
def test_what_is_left(seconds: float, now: float, expected: float) -> None:
    assert timers.left(seconds, BEGAN + seconds, now) == expected


seconds = st.floats(0.0, 1e9)


@given(seconds, st.floats(0.0, 4e9), st.floats(0.0, 4e9), st.floats(0.0, 1e9))
def test_a_sleep_ends_whatever_the_clocks_say(whole: float, began: float, now: float, later: float) -> None:
    left = timers.left(whole, began + whole, now)
    assert 0.0 <= left <= whole
    assert timers.left(whole, began + whole, now + later) <= left, "time that passes never makes it longer"
