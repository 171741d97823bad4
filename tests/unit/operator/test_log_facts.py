"""What the log says about an object: may it begin, does it own the run, is it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.operator.build import UID, read, state, tombstone, view, workflow
from tests.unit.operator.cases import OTHER, W
from workflow_operator.api.status import Phase
from workflow_operator.core import log_facts, names
from workflow_operator.core.log_facts import Standing
from workflow_operator.core.observation import RunRead, RunUnread, StoreTrouble


@dataclass(frozen=True)
class Case:
    attempt: int
    run: RunRead | RunUnread | None
    standing: Standing
    n: int = 1
    epoch: int = 0


MINE, THEIRS = view(), view(owner=OTHER)
CASES = {
    "not looked at": Case(1, None, Standing.UNREAD, 0),
    "store down": Case(1, RunUnread(StoreTrouble.UNAVAILABLE, "no"), Standing.UNREAD, 0),
    "nothing there": Case(0, read(), Standing.FREE),
    "nothing there yet": Case(1, read(), Standing.FREE),
    "nothing there any more": Case(1, read(), Standing.GONE, epoch=1),
    "mine": Case(1, read(MINE), Standing.OURS),
    "mine, silent": Case(1, read(MINE, W.RESUMABLE), Standing.OURS),
    "mine, status lost": Case(0, read(MINE), Standing.OURS),
    "mine, over": Case(1, read(view(W.FAILED)), Standing.ENDED, epoch=1),
    "mine, over, never seen alive": Case(1, read(view(W.SUCCESSFUL)), Standing.ENDED),
    "was mine, ended by another": Case(1, read(view(W.CANCELED, owner=OTHER)), Standing.ENDED, epoch=1),
    "theirs, lives": Case(0, read(THEIRS), Standing.IN_USE),
    "theirs, lives, I have submitted": Case(1, read(THEIRS), Standing.IN_USE),
    "theirs, left": Case(0, read(THEIRS, W.RESUMABLE), Standing.FREE),
    "theirs, over": Case(0, read(view(W.SUCCESSFUL, owner=OTHER)), Standing.FINISHED_BEFORE),
    "theirs, over while I waited": Case(2, read(view(W.FAILED, owner=OTHER)), Standing.FINISHED_BEFORE),
    "was mine, theirs now": Case(1, read(THEIRS), Standing.SUPERSEDED, epoch=1),
    "a later run is theirs": Case(1, read(view(n=2, owner=OTHER)), Standing.SUPERSEDED, epoch=1),
    "deleted, I am new": Case(0, read(tombstone("Deleted", n=2)), Standing.FREE, 3),
    "deleted under me": Case(1, read(tombstone("Deleted", n=2)), Standing.GONE, epoch=1),
    "deleted before it began": Case(1, read(tombstone("Deleted")), Standing.GONE),
    "swept, I am new": Case(0, read(tombstone("Swept")), Standing.FREE, 2),
    "swept before it began": Case(1, read(tombstone("Swept")), Standing.FREE, 2),
    "stopped before it began": Case(1, read(tombstone("Canceled")), Standing.ENDED),
    "stopped before I came": Case(0, read(tombstone("Canceled")), Standing.FINISHED_BEFORE),
    "a later name stopped": Case(1, read(tombstone("Canceled", n=2)), Standing.SUPERSEDED, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_standing(case: Case) -> None:
    phase = Phase.RUNNING if case.attempt else Phase.PENDING
    facts = log_facts.read(workflow(state(phase, case.attempt, epoch=case.epoch)), case.run)
    assert (facts.standing, facts.n) == (case.standing, case.n)


def test_my_attempt_is_for_a_name_that_is_not_there_yet() -> None:
    facts = log_facts.read(workflow(state(Phase.PROVISIONING, n=3)), read(tombstone("Deleted", n=2)))
    assert (facts.standing, facts.n) == (Standing.FREE, 3)


@pytest.mark.parametrize(
    ("seen", "run_uuid"),
    [
        pytest.param(read(), names.run_uuid(UID, 1), id="mine to make"),
        pytest.param(read(view(owner=OTHER, run_uuid="theirs"), W.RESUMABLE), "theirs", id="theirs to go on with"),
    ],
)
def test_the_run_that_an_attempt_is_for(seen: Any, run_uuid: str) -> None:
    assert log_facts.read(workflow(), seen).run_uuid == run_uuid
