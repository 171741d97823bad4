"""Decisions in the phase Running."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, head, job, read, running, state, tombstone, view, workflow
from tests.unit.operator.cases import (
    CANCELED,
    CHOSEN,
    MANUAL,
    OTHER,
    RECORDED,
    SHARED,
    Case,
    J,
    W,
    check,
    unreachable,
)
from workflow_operator.api.status import HeadIdentity, Phase, Resumes, Steps
from workflow_operator.core.actions import DeleteCluster, StopSubmission, SubmitRun
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import ErrorInfo, StepCounts
from workflow_operator.core.observation import HeadUnreachable, Observation, RunReadFailure, StoreFailure

OTHER_HEAD = HeadIdentity(pod_uid="pod-2", container_id="containerd://2")
RESTARTED = HeadIdentity(pod_uid="pod-1", container_id="containerd://2")


def failing(named: Any, **changes: Any) -> Observation:
    owned = (named,) if named is not None else ()
    return running(named=named, clusters=owned, **changes)


def on_selected_cluster(reply: Any, **changes: Any) -> Observation:
    obj = workflow(state(Phase.RUNNING, cluster=CHOSEN), spec=build.spec(build.SELECTING))
    return running(obj, named=SHARED, clusters=(), submission=reply, **changes)


LOST = {"cluster": None, "submission": None, "next_attempt_time": NOW + 2}
RUNNING = {
    "no fault": Case(running(), Phase.RUNNING, "SubmissionRunning", expect={"epoch": 1}),
    "head pod deleted": Case(
        failing(cluster(head=None)), Phase.RESUMABLE, "HeadPodLost", (DeleteCluster,), expect=LOST
    ),
    "head pod replaced": Case(
        failing(cluster(head=head(identity=OTHER_HEAD))), Phase.RESUMABLE, "HeadPodLost", (DeleteCluster,), expect=LOST
    ),
    "head container restarted": Case(
        failing(cluster(head=head(identity=RESTARTED))), Phase.RESUMABLE, "HeadPodLost", (DeleteCluster,), expect=LOST
    ),
    "head pod being deleted": Case(
        failing(cluster(head=head(deleting=True))), Phase.RESUMABLE, "HeadPodLost", (DeleteCluster,)
    ),
    "head pod evicted": Case(
        failing(cluster(head=head(phase="Failed", running=False, reason="Evicted"))),
        Phase.RESUMABLE,
        "HeadPodLost",
        (DeleteCluster,),
        message="Evicted",
    ),
    "RayCluster deleted": Case(failing(None), Phase.RESUMABLE, "RayClusterDeleted", expect=LOST),
    "RayCluster being deleted": Case(failing(cluster(deleting=True)), Phase.RESUMABLE, "RayClusterDeleted"),
    "RayCluster replaced": Case(
        failing(cluster(uid="cluster-x")), Phase.RESUMABLE, "RayClusterDeleted", (DeleteCluster,)
    ),
    "KubeRay cannot create a pod": Case(
        failing(cluster(failed="FailedDeleteHeadPod: exceeded quota")),
        Phase.RUNNING,
        "ReplicaFailure",
        message="exceeded quota",
    ),
    "RayCluster preempted": Case(
        failing(cluster(suspended=True)), Phase.RESUMABLE, "RayClusterSuspended", (DeleteCluster,)
    ),
    "head unreachable": Case(
        running(submission=HeadUnreachable("connection refused")),
        Phase.RUNNING,
        "HeadUnreachable",
        expect={"cluster": RECORDED.model_copy(update={"unreachable_since": NOW, "unreachable_until": NOW})},
    ),
    "head unreachable until the time limit, owner lost": Case(
        running(
            workflow(state(Phase.RUNNING, cluster=unreachable(60))),
            submission=HeadUnreachable("connection refused"),
            run=read(view(), W.RESUMABLE),
        ),
        Phase.RESUMABLE,
        "HeadUnreachable",
        (DeleteCluster,),
    ),
    "head replies again": Case(
        running(workflow(state(Phase.RUNNING, cluster=unreachable(9)))),
        Phase.RUNNING,
        "SubmissionRunning",
        expect={"cluster": RECORDED},
    ),
    "driver crashed, head alive": Case(
        running(submission=job(J.FAILED, 137, "killed")),
        Phase.RESUMABLE,
        "SubmissionFailed",
        message="exit code 137: killed",
        expect={"cluster": RECORDED},
    ),
    "driver crashed under Manual": Case(
        running(workflow(state(Phase.RUNNING), spec=MANUAL), submission=job(J.FAILED, 1)),
        Phase.RESUMABLE,
        "SubmissionFailed",
        (DeleteCluster,),
    ),
    "manager unresponsive": Case(running(submission=job(J.FAILED, 5)), Phase.RESUMABLE, "ManagerUnresponsive"),
    "input refused at a resume": Case(
        running(submission=job(J.FAILED, 6, "no module 'a'")),
        Phase.RESUMABLE,
        "ResumeRefused",
        (DeleteCluster,),
        message="no module 'a'",
        expect={"ending": None},
    ),
    "conflict at a resume": Case(
        running(submission=job(J.FAILED, 7, "another DAG")), Phase.RESUMABLE, "ResumeRefused", (DeleteCluster,)
    ),
    "input refused, log not read": Case(
        running(submission=job(J.FAILED, 6), run=RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")),
        Phase.RUNNING,
        "StoreUnavailable",
    ),
    "input refused, another owner released the run": Case(
        running(submission=job(J.FAILED, 6, "no module 'a'"), run=read(view(owner=OTHER), W.RESUMABLE)),
        Phase.FAILED,
        "EntrypointInvalid",
        (DeleteCluster,),
        message="no module 'a'",
    ),
    "input refused, another owner runs the id": Case(
        running(submission=job(J.FAILED, 6), run=read(view(owner=OTHER))),
        Phase.FAILED,
        "EntrypointInvalid",
        (DeleteCluster,),
    ),
    "submission stopped by a user": Case(running(submission=job(J.STOPPED)), Phase.RESUMABLE, "SubmissionStopped"),
    "submission exited, run not finished": Case(
        running(submission=job(J.SUCCEEDED, 0)), Phase.RESUMABLE, "SubmissionEndedEarly"
    ),
    "submission exited, log not read": Case(
        running(submission=job(J.SUCCEEDED, 0), run=RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")),
        Phase.RUNNING,
        "StoreUnavailable",
    ),
    "submission unknown to the recorded head": Case(
        running(submission=job(J.UNKNOWN)), Phase.RUNNING, "Submitting", (SubmitRun,)
    ),
    "store down": Case(running(run=RunReadFailure(StoreFailure.UNAVAILABLE, "no")), Phase.RUNNING, "StoreUnavailable"),
    "log contains SUCCESSFUL, head pod deleted": Case(
        failing(cluster(head=None), run=read(view(W.SUCCESSFUL, result_text="42"))),
        Phase.SUCCEEDED,
        "Succeeded",
        (DeleteCluster,),
        expect={"result": "42", "cluster": None, "completion_time": NOW - 1},
    ),
    "log contains FAILED": Case(
        running(
            run=read(view(W.FAILED, reason="StepFailed", error=ErrorInfo("ValueError", "no seat", "line 7", "book")))
        ),
        Phase.FAILED,
        "StepFailed",
        (DeleteCluster,),
        message="step book: ValueError: no seat\nline 7",
    ),
    "log contains CANCELED": Case(
        running(run=read(view(W.CANCELED, reason="Canceled"))), Phase.CANCELED, "Canceled", (DeleteCluster,)
    ),
    "taken over by another Workflow": Case(
        running(workflow(state(Phase.RUNNING, epoch=1)), run=read(view(owner=OTHER, epoch=2))),
        Phase.FAILED,
        "Superseded",
        (DeleteCluster,),
    ),
    "run deleted": Case(
        running(workflow(state(Phase.RUNNING, epoch=1)), run=read(tombstone("Deleted", run_number=2))),
        Phase.FAILED,
        "RunDeleted",
        (DeleteCluster,),
    ),
    "result too large": Case(
        running(run=read(view(W.SUCCESSFUL, result_text='"' + "x" * 5000 + '"'))),
        Phase.SUCCEEDED,
        "Succeeded",
        (DeleteCluster,),
        expect={
            "result": None,
            "result_note": (
                f"the result has more than 4096 characters: read it with ray.get(workflow.get_output({build.ID!r}))"
            ),
        },
    ),
    "selected cluster is not deleted after a failure": Case(
        on_selected_cluster(job(J.FAILED, 1)), Phase.RESUMABLE, "SubmissionFailed", expect={"cluster": CHOSEN}
    ),
    "driver on a selected cluster is stopped": Case(
        on_selected_cluster(job(), run=read(view(W.CANCELED, reason="Canceled"))),
        Phase.CANCELED,
        "Canceled",
        (StopSubmission,),
    ),
    "cancel": Case(running(workflow(state(Phase.RUNNING), spec=CANCELED)), Phase.CANCELING, "Canceling"),
}


@pytest.mark.parametrize("case", RUNNING.values(), ids=RUNNING.keys())
def test_running(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("name", ["no fault", "head unreachable", "store down"])
def test_second_round_without_news_changes_nothing(name: str) -> None:
    case = RUNNING[name]
    first = decide(case.observation, NOW)
    again = replace(case.observation, workflow=replace(case.observation.workflow, state=first.state))
    second = decide(again, NOW + 5)
    assert second.state == first.state
    assert not second.actions


def test_progress_resets_the_attempts_that_never_ran() -> None:
    before = state(Phase.RUNNING, resumes=Resumes(total=3, never_ran=3))
    decision = decide(running(workflow(before), run=read(view(counts=StepCounts(12, 8, 1)))), NOW)
    assert decision.state.resumes.never_ran == 0
    assert decision.state.steps.summary == "8/12"


@pytest.mark.parametrize(
    ("since", "poll", "delay"),
    [(0.0, 60.0, 1.0), (2.0, 60.0, 1.0), (20.0, 60.0, 5.0), (50.0, 60.0, 12.5), (4000.0, 60.0, 60.0), (50.0, 2.0, 2.0)],
)
def test_progress_of_a_quiet_run_is_read_less_often(since: float, poll: float, delay: float) -> None:
    """If the head lacks an address, only the log is read, after the same delay."""
    steps = Steps(total=12, succeeded=7, running=2, summary="7/12", changed=NOW - since)
    plain = running(workflow(state(Phase.RUNNING, steps=steps)), defaults=replace(build.DEFAULTS, poll_seconds=poll))
    for observed in (plain, replace(plain, named=cluster(head=head(ip="")), submission=None)):
        decision = decide(observed, NOW)
        condition = decision.state.condition("Reconciling")
        assert condition is not None
        assert (condition.reason, condition.message) == (
            "SubmissionRunning", "the submission of attempt 1 is running",
        )  # fmt: skip
        assert (decision.actions, decision.requeue_after) == ((), delay)
