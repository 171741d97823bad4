"""The interpretation of the log for a Workflow: may it start an attempt, does it own the run, is the run finished."""

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


OURS, OTHERS = view(), view(owner=OTHER)
CASES = {
    "log not read": Case(1, None, Ownership.UNREAD, 0),
    "store down": Case(1, RunReadFailure(StoreFailure.UNAVAILABLE, "no"), Ownership.UNREAD, 0),
    "no run": Case(0, read(), Ownership.FREE),
    "no run after a submission": Case(1, read(), Ownership.FREE),
    "run no longer exists": Case(1, read(), Ownership.UNREAD, 0, epoch=1),
    "claimed by this Workflow": Case(1, read(OURS), Ownership.OURS),
    "heartbeat expired": Case(1, read(OURS, W.RESUMABLE), Ownership.OURS),
    "status lost": Case(0, read(OURS), Ownership.OURS),
    "failed": Case(1, read(view(W.FAILED)), Ownership.ENDED, epoch=1),
    "succeeded before it was observed": Case(1, read(view(W.SUCCESSFUL)), Ownership.ENDED),
    "ended by another owner": Case(1, read(view(W.CANCELED, owner=OTHER)), Ownership.ENDED, epoch=1),
    "another owner runs it": Case(0, read(OTHERS), Ownership.IN_USE),
    "another owner runs it after a submission": Case(1, read(OTHERS), Ownership.IN_USE),
    "another owner released it": Case(0, read(OTHERS, W.RESUMABLE), Ownership.FREE),
    "another owner finished it": Case(0, read(view(W.SUCCESSFUL, owner=OTHER)), Ownership.FINISHED_BEFORE),
    "another owner finished it after two attempts": Case(
        2, read(view(W.FAILED, owner=OTHER)), Ownership.FINISHED_BEFORE
    ),
    "another owner took over": Case(1, read(OTHERS), Ownership.SUPERSEDED, epoch=1),
    "another owner has a later run": Case(1, read(view(run_number=2, owner=OTHER)), Ownership.SUPERSEDED, epoch=1),
    "deleted before the first attempt": Case(0, read(tombstone("Deleted", run_number=2)), Ownership.FREE, 3),
    "deleted while owned": Case(1, read(tombstone("Deleted", run_number=2)), Ownership.GONE, epoch=1),
    "deleted before the run was created": Case(1, read(tombstone("Deleted")), Ownership.GONE),
    "abandoned before the first attempt": Case(0, read(tombstone("Abandoned")), Ownership.FREE, 2),
    "abandoned before the run was created": Case(1, read(tombstone("Abandoned")), Ownership.FREE, 2),
    "canceled before the run was created": Case(1, read(tombstone("Canceled")), Ownership.ENDED),
    "canceled before the first attempt": Case(0, read(tombstone("Canceled")), Ownership.FINISHED_BEFORE),
    "later run canceled before it was created": Case(
        1, read(tombstone("Canceled", run_number=2)), Ownership.SUPERSEDED, 1
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_ownership(case: Case) -> None:
    phase = Phase.RUNNING if case.attempt else Phase.PENDING
    facts = log_facts.read(workflow(state(phase, case.attempt, epoch=case.epoch)), case.run)
    assert (facts.ownership, facts.run_number) == (case.ownership, case.run_number)


def test_attempt_keeps_a_run_number_that_does_not_exist_yet() -> None:
    facts = log_facts.read(workflow(state(Phase.PROVISIONING, run_number=3)), read(tombstone("Deleted", run_number=2)))
    assert (facts.ownership, facts.run_number) == (Ownership.FREE, 3)


@pytest.mark.parametrize(
    ("run", "run_uuid"),
    [
        pytest.param(read(), names.run_uuid(UID, 1), id="no run exists"),
        pytest.param(read(view(owner=OTHER, run_uuid="other"), W.RESUMABLE), "other", id="run of another owner"),
    ],
)
def test_attempt_creates_or_continues_the_run(run: Any, run_uuid: str) -> None:
    assert log_facts.read(workflow(), run).run_uuid == run_uuid
