"""Bugs put into engine and collector from outside: the simulation catches each within a few seeds, and says why."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from tests.support.simulation.clients import FUNCTION
from tests.support.simulation.seeds import COLLECTED_FROM, PASSING_FROM, simulate
from workflow import garbage
from workflow.engine.owner.planning import SegmentPlan
from workflow.log.blobs import Blobs, _name_of
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog, Segment
from workflow.model import ephemeral
from workflow.model.graph import StepOptions

SEEDS = range(30)
COLLECTED = range(COLLECTED_FROM, COLLECTED_FROM + 20)
PASSING = range(PASSING_FROM, PASSING_FROM + 20)


def no_fence_check() -> Any:
    """Whoever stores a segment believes that its place was free."""

    def try_store(log: RunLog, segment: Segment) -> bool:
        log.store.create(log.paths.segment(segment.seq), segment.data, segment.put_id)
        return True

    return mock.patch.object(RunLog, "try_store", try_store)


def child_before_commit() -> Any:
    """Steps start while the segment with what they take is still being stored."""
    return mock.patch.object(SegmentPlan, "has_no_stored_outcome", property(lambda plan: True))


@contextlib.contextmanager
def blob_after_record() -> Iterator[None]:
    """What a segment names is stored only once that segment is."""
    late: list[tuple[RunPaths, bytes]] = []
    put, try_store = Blobs.put, RunLog.try_store

    def put_late(blobs: Blobs, data: Any) -> str:
        if data == FUNCTION:  # a driver stores it before there is any record
            return put(blobs, data)
        late.append((blobs._paths, data))
        return _name_of(data)

    def store_record_first(log: RunLog, segment: Segment) -> bool:
        stored = try_store(log, segment)
        for each in [each for each in late if each[0] == log.paths]:
            late.remove(each)
            put(log.blobs, each[1])
        return stored

    with mock.patch.object(Blobs, "put", put_late), mock.patch.object(RunLog, "try_store", store_record_first):
        yield


def no_second_try() -> Any:
    """A step that raised fails, whatever its options say."""
    return mock.patch.object(StepOptions, "allows_attempt_after", return_value=False)


def lent_for_ever() -> Any:
    """A new owner believes that it holds what was lent to the steps of the one before."""
    return mock.patch.object(ephemeral, "invalidate_all")


def collected_and_not_forbidden() -> Any:
    """What a driver stored of a run that it has not made yet is removed, and it may still make the run."""

    def fate(*run: Any) -> garbage.FolderDecision:
        found = right(*run)
        return garbage.FolderDecision.REMOVE if found is garbage.FolderDecision.ABANDON else found

    right = garbage.decide_folder
    return mock.patch.object(garbage, "decide_folder", fate)


@pytest.mark.parametrize(
    ("bug", "seeds", "caught_by"),
    [
        (no_fence_check, SEEDS, ("I3", "I4")),
        (child_before_commit, SEEDS, ("I4",)),
        (blob_after_record, SEEDS, ("I5",)),
        (no_second_try, SEEDS, ("FAILED (StepFailed",)),
        (lent_for_ever, PASSING, ("hang",)),
        (collected_and_not_forbidden, COLLECTED, ("I5", "hang")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_it_is_caught(bug: Callable[[], Any], seeds: range, caught_by: tuple[str, ...]) -> None:
    with bug():
        problems = [problem for seed in seeds for problem in simulate(seed).problems]
    assert [problem for problem in problems if problem.startswith(caught_by)], problems[:20]


def test_without_them_the_same_seeds_are_well() -> None:
    assert [report.told() for report in map(simulate, [*SEEDS, *COLLECTED, *PASSING]) if report.problems] == []
