"""The log of a driver is copied once, when its attempt ends and its head replied; else the status reports the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, head, job, read, running, state, view, workflow
from tests.unit.operator.cases import CHOSEN, SHARED, J, W
from workflow_operator.api.status import DriverLog, Phase
from workflow_operator.core.actions import Decision, DeleteCluster, StopSubmission, StoreDriverLog
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.driver_log import NOT_STORED_YET
from workflow_operator.core.observation import HeadUnreachable, Observation

FAILED = running(run=read(view(W.FAILED)))
SELECTED = running(
    workflow(state(Phase.RUNNING, cluster=CHOSEN)), clusters=(), named=SHARED, run=read(view(W.CANCELED))
)
DEAD = cluster(head=head(running=False))


def copies(decision: Decision) -> list[StoreDriverLog]:
    return [action for action in decision.actions if isinstance(action, StoreDriverLog)]


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(running(run=read(view(W.SUCCESSFUL))), id="succeeded"),
        pytest.param(FAILED, id="failed"),
        pytest.param(running(run=read(view(W.CANCELED))), id="canceled"),
        pytest.param(running(submission=job(J.FAILED, 1)), id="driver crashed, the cluster is used again"),
        pytest.param(SELECTED, id="selected cluster"),
    ],
)
def test_log_is_copied_when_the_attempt_ends(seen: Observation) -> None:
    decision = decide(seen, NOW)
    (copy,) = copies(decision)
    submission = seen.workflow.state.submission
    assert submission is not None
    assert (copy.submission_id, copy.attempt) == (submission.id, 1)
    assert decision.state.driver_log == DriverLog(attempt=1, message=NOT_STORED_YET)


@pytest.mark.parametrize("seen", [FAILED, SELECTED], ids=["created", "selected"])
def test_log_is_copied_before_its_cluster_is_deleted_or_stopped(seen: Observation) -> None:
    kinds = [type(action) for action in decide(seen, NOW).actions]
    (other,) = [kind for kind in kinds if kind in (DeleteCluster, StopSubmission)]
    assert kinds.index(StoreDriverLog) < kinds.index(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"named": DEAD, "clusters": (DEAD,), "submission": None}, "did not reply", id="head is dead"),
        pytest.param({"submission": HeadUnreachable("no answer")}, "did not reply", id="head does not reply"),
        pytest.param({"submission": job(J.UNKNOWN)}, "did not start", id="never submitted"),
    ],
)
def test_status_explains_why_a_log_is_lost(changes: dict[str, Any], message: str) -> None:
    decision = decide(replace(FAILED, **changes), NOW)
    assert copies(decision) == []
    assert decision.state.driver_log is not None
    assert message in decision.state.driver_log.message


def test_nothing_is_copied_while_the_attempt_runs_or_after_it() -> None:
    assert copies(decide(running(), NOW)) == []
    finished = decide(FAILED, NOW).state
    again = decide(replace(FAILED, workflow=workflow(finished)), NOW + 1)
    assert copies(again) == []
    assert again.state.driver_log == finished.driver_log


def test_deletion_copies_nothing() -> None:
    deleted = workflow(state(Phase.RUNNING), deleted=NOW)
    assert copies(decide(running(deleted), NOW)) == []


@pytest.mark.parametrize("attempt", [1, 2])
def test_result_of_the_copy_of_the_same_attempt_is_recorded(attempt: int) -> None:
    finished = decide(FAILED, NOW).state
    stored = DriverLog(attempt=attempt, location="s3://checkpoints/all/team/x")
    seen = replace(FAILED, workflow=workflow(finished), driver_log=stored)
    expected = stored if attempt == 1 else finished.driver_log
    assert decide(seen, NOW + 1).state.driver_log == expected
