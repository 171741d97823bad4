"""Decisions if the store replies, but lacks stored data of a run that was read from it before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, job, observation_of, read, running, spec, state, view, workflow
from tests.unit.operator.cases import CANCELED, CHOSEN, FAILURE, LIVE, SHARED, Case, J, W, check
from workflow.submission import ExitCode
from workflow_operator.api.spec import Retention
from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.core.actions import CreateCluster, DeleteCluster, RemoveFinalizer, StopSubmission
from workflow_operator.core.decide import decide
from workflow_operator.core.names import RESUME_ANNOTATION
from workflow_operator.core.observation import Loss, Observation, RunReadFailure, StoreFailure

GONE = RunReadFailure(StoreFailure.LOST, "s3://all contains neither registry/1 nor segment 1", Loss.RUN)
OBJECT = RunReadFailure(StoreFailure.CORRUPT, "blob abc is missing", Loss.OBJECT)
BUCKET = RunReadFailure(StoreFailure.REFUSED, "NoSuchBucket: there is no bucket", Loss.BUCKET)
DAMAGED = RunReadFailure(StoreFailure.CORRUPT, "segment 3 is damaged")
DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")


def known(phase: Phase = Phase.RUNNING, since: float | None = None, **changes: Any) -> WorkflowState:
    """Return a status whose run was read before."""
    return state(phase, epoch=2, checkpoints_lost_since=since, **changes)


def during(run: Any, since: float | None = None, phase: Phase = Phase.RUNNING, **changes: Any) -> Observation:
    return running(workflow(known(phase, since), **changes), run=run)


LOST = {
    "run, first observation": Case(
        during(GONE), Phase.RUNNING, "CheckpointsLost", expect={"checkpoints_lost_since": NOW}
    ),
    "run, nothing is stored under the id": Case(during(read()), Phase.RUNNING, "CheckpointsLost"),
    "run, an older run is left": Case(
        replace(during(read(view(W.FAILED))), workflow=workflow(known(run_number=2))), Phase.RUNNING, "CheckpointsLost"
    ),
    "run, not confirmed yet": Case(
        during(GONE, NOW - 14.5), Phase.RUNNING, "CheckpointsLost", expect={"checkpoints_lost_since": NOW - 14.5}
    ),
    "run, confirmed": Case(
        during(GONE, NOW - 15),
        Phase.FAILED,
        "CheckpointsLost",
        (DeleteCluster,),
        message="contains neither registry/1 nor segment 1",
        expect={"completion_time": NOW},
    ),
    "object, not confirmed yet": Case(during(OBJECT, NOW - 14.5), Phase.RUNNING, "CheckpointsLost"),
    "object, confirmed": Case(
        during(OBJECT, NOW - 15), Phase.RESUMABLE, "CheckpointsLost", (DeleteCluster,), message="blob abc is missing"
    ),
    "bucket, server may be starting": Case(during(BUCKET, NOW - 59.5), Phase.RUNNING, "CheckpointsLost"),
    "bucket, confirmed": Case(
        during(BUCKET, NOW - 60), Phase.RESUMABLE, "CheckpointsLost", (DeleteCluster,), message="there is no bucket"
    ),
    "provisioning": Case(during(GONE, NOW - 15, Phase.PROVISIONING), Phase.FAILED, "CheckpointsLost", (DeleteCluster,)),
    "canceling, the run is lost": Case(
        during(GONE, NOW - 15, Phase.CANCELING, spec=CANCELED), Phase.FAILED, "CheckpointsLost", (DeleteCluster,)
    ),
    "canceling, an object is lost": Case(
        during(OBJECT, NOW - 15, Phase.CANCELING, spec=CANCELED),
        Phase.CANCELING,
        "CancelOwed",
        (DeleteCluster,),
        message="CheckpointsLost",
    ),
    "damaged object": Case(during(DAMAGED), Phase.RUNNING, "StoreCorrupt", expect={"checkpoints_lost_since": None}),
    "store down meanwhile": Case(
        during(DOWN, NOW - 9), Phase.RUNNING, "StoreUnavailable", expect={"checkpoints_lost_since": NOW - 9}
    ),
    "data is back": Case(
        during(read(view(epoch=2)), NOW - 9),
        Phase.RUNNING,
        "SubmissionRunning",
        expect={"checkpoints_lost_since": None},
    ),
    "run was never read": Case(running(run=replace(BUCKET)), Phase.RUNNING, "StoreRefused"),
}


@pytest.mark.parametrize("case", LOST.values(), ids=LOST.keys())
def test_lost_data_is_shown_at_once_and_confirmed(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("phase", [phase for phase in LIVE if phase is not Phase.PENDING], ids=str)
def test_lost_run_ends_each_phase_with_one_reason(phase: Phase) -> None:
    """No phase starts an attempt, and none ends as RunDeleted. The message names the run and the time."""
    obj = workflow(known(phase))
    observed = running(obj, run=GONE)
    first = decide(observed, NOW)
    assert first.state.phase is phase
    assert not [each for each in first.actions if isinstance(each, CreateCluster)]
    assert first.state.cluster == obj.state.cluster
    assert first.requeue_after == 5.0
    last = decide(replace(observed, workflow=replace(obj, state=first.state)), NOW + 15)
    condition = last.state.condition("Failed")
    assert condition is not None
    assert condition.reason == "CheckpointsLost"
    assert "run 1 of workflow id" in condition.message
    assert "is missing since 1970-01-12T13:46:40" in condition.message


@pytest.mark.parametrize("lost", [GONE, OBJECT, BUCKET], ids=["run", "object", "bucket"])
def test_no_attempt_starts_while_data_is_missing(lost: RunReadFailure) -> None:
    obj = workflow(known(Phase.RESUMABLE, NOW - 5000, last_failure=FAILURE, next_attempt_time=NOW - 4000))
    decision = decide(observation_of(obj, run=lost), NOW)
    assert not [each for each in decision.actions if isinstance(each, CreateCluster)]
    assert decision.state.attempt == 1
    assert decision.state.phase is (Phase.FAILED if lost is GONE else Phase.RESUMABLE)


def test_restored_object_lets_the_run_continue() -> None:
    waiting = decide(during(OBJECT, NOW - 15), NOW).state
    obj = workflow(waiting)
    decision = decide(observation_of(obj, run=read(view(epoch=2), W.RESUMABLE)), NOW + 5000)
    assert decision.state.phase is Phase.PROVISIONING
    assert decision.state.checkpoints_lost_since is None


def test_driver_on_a_selected_cluster_is_stopped() -> None:
    for lost, phase in ((GONE, Phase.FAILED), (OBJECT, Phase.RESUMABLE)):
        obj = workflow(known(since=NOW - 15, cluster=CHOSEN))
        decision = decide(observation_of(obj, run=lost, named=SHARED, submission=job()), NOW)
        assert decision.state.phase is phase
        assert [each for each in decision.actions if isinstance(each, StopSubmission)]


@pytest.mark.parametrize("retention", Retention, ids=lambda retention: str(retention.value))
def test_deletion_of_a_lost_run_has_nothing_to_clean_up(retention: Retention) -> None:
    for phase in (Phase.RUNNING, Phase.FAILED):
        obj = workflow(known(phase), spec=spec(checkpoints={"retention": retention.value}), deleted=NOW)
        assert decide(observation_of(obj, run=GONE), NOW).actions == (RemoveFinalizer(),)


UNREADABLE = job(J.FAILED, ExitCode.CHECKPOINTS_UNREADABLE, "CorruptLogError: blob abc is missing")


def test_driver_that_cannot_read_a_checkpoint_is_not_repeated() -> None:
    """The operator reads no values, so only the driver notices. The compute is freed, and a user resumes the run."""
    failed = decide(_unreadable(), NOW)
    assert (failed.state.phase, failed.state.cluster) == (Phase.RESUMABLE, None)
    later = observation_of(workflow(failed.state), run=read(view(epoch=2), W.RESUMABLE))
    for passed in (60.0, 5000.0):
        check(Case(later, Phase.RESUMABLE, "CheckpointsUnreadable", message="blob abc is missing", now=NOW + passed))
    resumed = replace(later, workflow=workflow(failed.state, annotations={RESUME_ANNOTATION: "1"}))
    assert decide(resumed, NOW + 60).state.phase is Phase.PROVISIONING


def _unreadable() -> Observation:
    return replace(during(read(view(epoch=2))), submission=UNREADABLE, clusters=(cluster(),))
