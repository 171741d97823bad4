"""Jobs that run side by side: which ones may start, and that all of them run."""

from __future__ import annotations

import threading

import pytest

from dev.side_by_side import Job, run_all, startable

HEAVY, LIGHT, OTHER = Job("heavy", 3), Job("light", 1), Job("other", 1)


@pytest.mark.parametrize(
    ("waiting", "running", "expected"),
    [
        pytest.param([HEAVY, LIGHT], [], HEAVY, id="the first of several that fit"),
        pytest.param([LIGHT], [HEAVY], LIGHT, id="fits beside another"),
        pytest.param([OTHER], [HEAVY, LIGHT], None, id="does not fit"),
        pytest.param([Job("second", 3), LIGHT], [HEAVY], LIGHT, id="does not hold back a later one"),
        pytest.param([Job("huge", 9)], [], Job("huge", 9), id="exceeds the capacity but is alone"),
        pytest.param([Job("huge", 9)], [LIGHT], None, id="exceeds the capacity and is not alone"),
        pytest.param([Job("late", 1, after=("light",))], [LIGHT], None, id="waits for a running job"),
        pytest.param([Job("late", 1, after=("light",)), LIGHT], [], LIGHT, id="waits for a waiting job"),
        pytest.param([Job("late", 1, after=("unknown",))], [], Job("late", 1, after=("unknown",)), id="unknown job"),
    ],
)
def test_which_job_may_start(waiting: list[Job], running: list[Job], expected: Job | None) -> None:
    assert startable(waiting, running, 4) == expected


def test_results_come_in_the_order_of_the_jobs() -> None:
    jobs = [Job("last", 1, after=("first",)), Job("first", 1), Job("alone", 9)]
    order: list[str] = []

    def run(job: Job) -> str:
        order.append(job.name)
        return job.name.upper()

    assert run_all(jobs, 2, run) == ["LAST", "FIRST", "ALONE"]
    assert order.index("first") < order.index("last")


def test_jobs_that_fit_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2)
    assert run_all([LIGHT, OTHER], 2, lambda job: meeting.wait(60) in (0, 1)) == [True, True]


def test_jobs_that_do_not_fit_run_one_after_another() -> None:
    running: set[str] = set()

    def run(job: Job) -> int:
        running.add(job.name)
        together = len(running)
        running.remove(job.name)
        return together

    assert run_all([Job(str(number), 2) for number in range(8)], 3, run) == [1] * 8


def test_jobs_that_wait_for_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match="jobs wait for each other: a, b"):
        run_all([Job("a", 1, after=("b",)), Job("b", 1, after=("a",))], 2, lambda job: None)
