"""Bugs injected into the engine and the collector: the simulation finds each within a few seeds, and names the rule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from tests.faults import test_simulation
from tests.support.simulation.clients import FUNCTION
from tests.support.simulation.scenario import COLLECTOR_FROM, EPHEMERAL_FROM, RIVALS_FROM, simulate
from workflow import garbage, requests
from workflow.engine.owner.planning import SegmentPlan
from workflow.log.blobs import Blobs, _name_of
from workflow.log.claim import Claimant, ClaimPurpose, FollowingRecords, claim
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog, Segment
from workflow.model import ephemeral
from workflow.model.graph import StepOptions
from workflow.model.run_view import Owner
from workflow.model.state import RunState

SEEDS = range(30)
COLLECTOR_SEEDS = range(COLLECTOR_FROM, COLLECTOR_FROM + 20)
EPHEMERAL_SEEDS = range(EPHEMERAL_FROM, EPHEMERAL_FROM + 20)
RIVALS_SEEDS = range(RIVALS_FROM, RIVALS_FROM + 20)


def no_fence_check() -> Any:
    """An owner that stores a segment ignores that its slot was occupied."""

    def try_store(log: RunLog, segment: Segment) -> bool:
        log.store.create(log.paths.segment(segment.seq), segment.data, segment.put_id)
        return True

    return mock.patch.object(RunLog, "try_store", try_store)


def start_before_commit() -> Any:
    """Steps start while the segment with their inputs is still being stored."""
    return mock.patch.object(SegmentPlan, "has_no_stored_outcome", property(lambda plan: True))


@contextlib.contextmanager
def blob_after_record() -> Iterator[None]:
    """The blobs of a segment are stored after the segment."""
    late: list[tuple[RunPaths, bytes]] = []
    put, try_store = Blobs.put, RunLog.try_store

    def put_late(blobs: Blobs, data: Any) -> str:
        if data == FUNCTION:  # the driver stores it before the first record
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


def no_second_attempt() -> Any:
    """A step that raised fails, even if its options allow another attempt."""
    return mock.patch.object(StepOptions, "allows_attempt_after", return_value=False)


def ephemeral_values_of_other_epochs() -> Any:
    """A new owner believes that the ephemeral values of the previous epoch still exist."""
    return mock.patch.object(ephemeral, "invalidate_all")


def collected_without_tombstone() -> Any:
    """A collection removes the blobs of a run that its driver has not registered yet, and writes no tombstone."""

    def fate(*run: Any) -> garbage.FolderDecision:
        found = right(*run)
        return garbage.FolderDecision.REMOVE if found is garbage.FolderDecision.ABANDON else found

    right = garbage.decide_folder
    return mock.patch.object(garbage, "decide_folder", fate)


def right_checked_too_early() -> Any:
    """A request decides from an older read that it may replace the owner, even if that is another one by then."""

    class Anybody(Owner):
        """Equals every owner."""

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = Owner.__hash__

    def claim_with_old_right(log: RunLog, state: RunState, claimant: Claimant, following: FollowingRecords) -> int:
        if state.owner.uid == claimant.owner.uid:
            claimant = replace(claimant, purpose=ClaimPurpose.DRIVE, take_over=Anybody("anybody"))
        return claim(log, state, claimant, following)

    return mock.patch.object(requests, "claim", claim_with_old_right)


@pytest.mark.parametrize(
    ("bug", "seeds", "problems_start_with"),
    [
        (no_fence_check, SEEDS, ("I3", "I4")),
        (start_before_commit, SEEDS, ("I4",)),
        (blob_after_record, SEEDS, ("I5",)),
        (no_second_attempt, SEEDS, ("FAILED (StepFailed",)),
        (ephemeral_values_of_other_epochs, EPHEMERAL_SEEDS, ("hang",)),
        (collected_without_tombstone, COLLECTOR_SEEDS, ("I5", "hang")),
        (right_checked_too_early, RIVALS_SEEDS, ("request of object-1 claimed",)),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_injected_bug_is_found(bug: Callable[[], Any], seeds: range, problems_start_with: tuple[str, ...]) -> None:
    others = []
    with bug():
        for seed in seeds:
            problems = simulate(seed).problems
            if any(problem.startswith(problems_start_with) for problem in problems):
                return
            others += problems
    pytest.fail(f"no seed found the bug; the problems found are {others[:20]}")


def test_same_seeds_are_simulated_without_bugs() -> None:
    assert {*SEEDS, *COLLECTOR_SEEDS, *EPHEMERAL_SEEDS, *RIVALS_SEEDS} <= set(test_simulation.SEEDS)
