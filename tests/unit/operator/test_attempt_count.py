"""How the end of an attempt changes the counts of attempts without progress."""

from __future__ import annotations

import pytest

from workflow_operator.api.status import Resumes
from workflow_operator.core.attempt_count import DISRUPTIONS, AttemptEnd, EndedAttempt, count, counted, end_of

FAILURE, DISRUPTION, USER = AttemptEnd.FAILURE, AttemptEnd.DISRUPTION, AttemptEnd.USER


def ended(
    end: AttemptEnd = FAILURE, progressed: bool | None = False, owned: bool = True, read: bool = True, epochs: int = 0
) -> EndedAttempt:
    return EndedAttempt(end, progressed, owned, read, epochs)


def numbers(never: int = 0, row: int = 0, disrupted: int = 0, excused: int = 0) -> Resumes:
    return Resumes(total=7, never_ran=never, without_progress=row, disruptions=disrupted, excused=excused)


COUNTED = {
    "it made progress": (numbers(2, 5, 3, 2), ended(progressed=True), numbers()),
    "it made progress and never owned the run": (numbers(2, 5), ended(progressed=True, owned=False), numbers(1, 1)),
    "it made no progress": (numbers(), ended(), numbers(row=1)),
    "it made no progress again": (numbers(row=3), ended(epochs=2), numbers(row=4)),
    "it never owned the run": (numbers(row=3), ended(owned=False), numbers(1, 4)),
    "the log is not read": (numbers(1, 1), ended(owned=False, read=False), numbers(1, 2)),
    "managers failed within the attempt": (numbers(row=1), ended(epochs=6), numbers(row=6)),
    "epochs and attempts that never ran": (numbers(2, 2), ended(owned=False, epochs=4), numbers(3, 7)),
    "an earlier version started it": (numbers(1, 1), ended(progressed=None, epochs=2), numbers(1, 3)),
    "the user changed the template": (numbers(), ended(USER, owned=False), numbers(row=1)),
    "the user changed the template again": (numbers(row=4), ended(USER, owned=False), numbers(row=5)),
    "a disruption of an attempt with progress": (
        numbers(2, 5, 3, 2),
        ended(DISRUPTION, progressed=True),
        numbers(disrupted=1, excused=1),
    ),
    "a disruption without progress": (numbers(row=1), ended(DISRUPTION), numbers(0, 2, 1, 1)),
    "another disruption without progress": (
        numbers(0, 2, 1, 1),
        ended(DISRUPTION, epochs=1),
        numbers(0, 3, 2, 2),
    ),
    "a disruption before it owned the run": (
        numbers(1, 1),
        ended(DISRUPTION, owned=False),
        numbers(1, 2, 1, 0),
    ),
    "a failure after disruptions": (numbers(0, 3, 2, 2), ended(epochs=2), numbers(0, 4, 2, 2)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_ended_attempt_is_counted(name: str) -> None:
    before, attempt, after = COUNTED[name]
    assert count(before, attempt) == after


@pytest.mark.parametrize(
    ("resumes", "epochs", "number"),
    [
        (numbers(), 0, 0),
        (numbers(), 4, 4),
        (numbers(never=2, row=99), 4, 6),
        (numbers(excused=3), 4, 1),
        (numbers(excused=3), 2, 0),
        (numbers(never=1, excused=3), 2, 1),
        (numbers(disrupted=50), 4, 4),
    ],
)
def test_limit_counts_failures_and_no_disruptions(resumes: Resumes, epochs: int, number: int) -> None:
    assert counted(resumes, epochs) == number


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        *((reason, DISRUPTION) for reason in sorted(DISRUPTIONS)),
        ("TemplateChanged", USER),
        ("HeadPodLost", FAILURE),
        ("HeadUnreachable", FAILURE),
        ("PreRunningDeadlineExceeded", FAILURE),
    ],
)
def test_reason_of_the_failure_decides_what_is_counted(reason: str, end: AttemptEnd) -> None:
    assert end_of(reason) is end
