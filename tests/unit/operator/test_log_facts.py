"""What the log says about an object: may it begin, does it own the run, is it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.operator.build import UID, read, state, tombstone, view, workflow
from tests.unit.operator.cases import OTHER, W
from workflow_operator.api.status import Phase
from workflow_operator.core import log_facts, names
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.observation import RunRead, RunReadFailure, StoreFailure


@dataclass(frozen=True)
class Case:
    attempt: int
    run: RunRead | RunReadFailure | None
    ownership: Ownership
    run_number: int = 1
    epoch: int = 0


MINE, THEIRS = view(), view(owner=OTHER)
CASES = {
    "not looked at": Case(1, None, Ownership.UNREAD, 0),
    "store down": Case(1, RunReadFailure(StoreFailure.UNAVAILABLE, "no"), Ownership.UNREAD, 0),
    "nothing there": Case(0, read(), Ownership.FREE),
    "nothing there yet": Case(1, read(), Ownership.FREE),
    "nothing there any more": Case(1, read(), Ownership.GONE, epoch=1),
    "mine": Case(1, read(MINE), Ownership.OURS),
    "mine, silent": Case(1, read(MINE, W.RESUMABLE), Ownership.OURS),
    "mine, status lost": Case(0, read(MINE), Ownership.OURS),
    "mine, over": Case(1, read(view(W.FAILED)), Ownership.ENDED, epoch=1),
    "mine, over, never seen alive": Case(1, read(view(W.SUCCESSFUL)), Ownership.ENDED),
    "was mine, ended by another": Case(1, read(view(W.CANCELED, owner=OTHER)), Ownership.ENDED, epoch=1),
    "theirs, lives": Case(0, read(THEIRS), Ownership.IN_USE),
    "theirs, lives, I have submitted": Case(1, read(THEIRS), Ownership.IN_USE),
    "theirs, left": Case(0, read(THEIRS, W.RESUMABLE), Ownership.FREE),
    "theirs, over": Case(0, read(view(W.SUCCESSFUL, owner=OTHER)), Ownership.FINISHED_BEFORE),
    "theirs, over while I waited": Case(2, read(view(W.FAILED, owner=OTHER)), Ownership.FINISHED_BEFORE),
    "was mine, theirs now": Case(1, read(THEIRS), Ownership.SUPERSEDED, epoch=1),
    "a later run is theirs": Case(1, read(view(run_number=2, owner=OTHER)), Ownership.SUPERSEDED, epoch=1),
    "deleted, I am new": Case(0, read(tombstone("Deleted", run_number=2)), Ownership.FREE, 3),
    "deleted under me": Case(1, read(tombstone("Deleted", run_number=2)), Ownership.GONE, epoch=1),
    "deleted before it began": Case(1, read(tombstone("Deleted")), Ownership.GONE),
    "swept, I am new": Case(0, read(tombstone("Abandoned")), Ownership.FREE, 2),
    "swept before it began": Case(1, read(tombstone("Abandoned")), Ownership.FREE, 2),
    "stopped before it began": Case(1, read(tombstone("Canceled")), Ownership.ENDED),
    "stopped before I came": Case(0, read(tombstone("Canceled")), Ownership.FINISHED_BEFORE),
    "a later name stopped": Case(1, read(tombstone("Canceled", run_number=2)), Ownership.SUPERSEDED, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_standing(case: Case) -> None:
    phase = Phase.RUNNING if case.attempt else Phase.PENDING
    facts = log_facts.read(workflow(state(phase, case.attempt, epoch=case.epoch)), case.run)
    assert (facts.ownership, facts.run_number) == (case.ownership, case.run_number)


def test_my_attempt_is_for_a_name_that_is_not_there_yet() -> None:
    facts = log_facts.read(workflow(state(Phase.PROVISIONING, run_number=3)), read(tombstone("Deleted", run_number=2)))
    assert (facts.ownership, facts.run_number) == (Ownership.FREE, 3)


@pytest.mark.parametrize(
    ("seen", "run_uuid"),
    [
        pytest.param(read(), names.run_uuid(UID, 1), id="mine to make"),
        pytest.param(read(view(owner=OTHER, run_uuid="theirs"), W.RESUMABLE), "theirs", id="theirs to go on with"),
    ],
)
def test_the_run_that_an_attempt_is_for(seen: Any, run_uuid: str) -> None:
    assert log_facts.read(workflow(), seen).run_uuid == run_uuid
