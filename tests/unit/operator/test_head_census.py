"""The census of heads that do not reply."""

from __future__ import annotations

import pytest

from workflow_operator.core.head_census import HeadCensus, HeadsReport

START = 0.0


def census(*requests: tuple[str, bool, float]) -> HeadCensus:
    """Return the census after requests: the head, whether it replied, and the time."""
    found = HeadCensus(START)
    for head, replied, now in requests:
        found.record(head, replied, now)
    return found


def test_heads_that_reply_are_counted_as_asked() -> None:
    found = census(("a", True, 1), ("b", False, 2), ("a", True, 3))
    assert found.report("b", 4) == HeadsReport(asked=2, unreachable=1, observed_seconds=4)
    assert found.report("a", 4).unreachable == 0
    assert found.unreachable == 1


def test_reply_ends_the_outage_of_a_head() -> None:
    found = census(("a", False, 1), ("a", True, 2), ("a", False, 50), ("b", False, 109))
    assert found.report("a", 109).unreachable == 2
    assert census(("a", False, 1), ("a", True, 2)).unreachable == 0


def test_only_heads_that_failed_within_a_minute_count_together() -> None:
    found = census(
        ("old", False, 0), ("old", False, 50), ("old", False, 100), ("a", False, 100), ("b", False, 130)
    )  # fmt: skip
    assert found.report("a", 130).unreachable == 2
    assert found.report("old", 130).unreachable == 1
    assert found.report("b", 130).unreachable == 2


def test_head_that_is_no_longer_asked_is_forgotten() -> None:
    found = census(("a", False, 0), ("b", False, 60))
    assert found.report("b", 60).asked == 2
    found.record("b", False, 60.1)
    assert (found.report("b", 60.1).asked, found.unreachable) == (1, 1)


def test_unknown_head_has_an_empty_report() -> None:
    assert census(("a", False, 0)).report("b", 5) == HeadsReport(1, 0, 5)


@pytest.mark.parametrize(
    ("asked", "unreachable", "suspect"),
    [(3, 3, True), (6, 3, True), (7, 3, False), (2, 2, False), (1, 1, False), (100, 49, False), (100, 50, True)],
)
def test_three_heads_and_half_of_all_make_the_network_suspect(asked: int, unreachable: int, suspect: bool) -> None:
    requests = [(f"head-{number}", number >= unreachable, 10.0 + number / 100) for number in range(asked)]
    found = census(*requests)
    assert found.suspects_network is suspect
    assert found.report("head-0", 20).suspects_network is suspect


def test_census_is_settled_after_a_minute() -> None:
    found = census(("a", False, 1))
    assert not found.report("a", 59.9).is_settled
    assert found.report("a", 60).is_settled
