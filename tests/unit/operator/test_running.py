"""Decisions in phase Running: what is seen, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, head, job, read, running, state, tombstone, view, workflow
from tests.unit.operator.cases import CANCELED, CHOSEN, MANUAL, OTHER, RECORDED, SHARED, Case, J, W, check
from workflow_operator.api.status import HeadIdentity, Phase, Resumes
from workflow_operator.core.actions import DeleteCluster, StopSubmission, SubmitRun
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import ErrorInfo, StepCounts
from workflow_operator.core.observation import HeadUnreachable, Observation, RunReadFailure, StoreFailure

OTHER_HEAD = HeadIdentity(pod_uid="pod-2", container_id="containerd://2")
RESTARTED = HeadIdentity(pod_uid="pod-1", container_id="containerd://2")


def failing(named: Any, **changes: Any) -> Observation:
    mine = (named,) if named is not None else ()
    return running(named=named, clusters=mine, **changes)


def reused(said: Any, **changes: Any) -> Observation:
    obj = workflow(state(Phase.RUNNING, cluster=CHOSEN), spec=build.spec(build.SELECTING))
    return running(obj, named=SHARED, clusters=(), submission=said, **changes)


LOST = {"cluster": None, "submission": None, "next_attempt_time": NOW + 2}
RUNNING = {
    "all is well": Case(running(), Phase.RUNNING, "SubmissionRunning", expect={"epoch": 1}),
    "head pod gone": Case(failing(cluster(head=None)), Phase.RESUMABLE, "HeadPodLost", (DeleteCluster,), expect=LOST),
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
        says="Evicted",
    ),
    "RayCluster deleted": Case(failing(None), Phase.RESUMABLE, "RayClusterDeleted", expect=LOST),
    "RayCluster being deleted": Case(failing(cluster(deleting=True)), Phase.RESUMABLE, "RayClusterDeleted"),
    "RayCluster made anew": Case(
        failing(cluster(uid="cluster-x")), Phase.RESUMABLE, "RayClusterDeleted", (DeleteCluster,)
    ),
    "RayCluster failed": Case(failing(cluster(failed="quota")), Phase.RESUMABLE, "RayClusterFailed", (DeleteCluster,)),
    "RayCluster preempted": Case(
        failing(cluster(suspended=True)), Phase.RESUMABLE, "RayClusterSuspended", (DeleteCluster,)
    ),
    "head silent": Case(
        running(submission=HeadUnreachable("connection refused")),
        Phase.RUNNING,
        "HeadUnreachable",
        expect={"cluster": RECORDED.model_copy(update={"unreachable_since": NOW})},
    ),
    "head silent for too long": Case(
        running(
            workflow(state(Phase.RUNNING, cluster=RECORDED.model_copy(update={"unreachable_since": NOW - 60}))),
            submission=HeadUnreachable("connection refused"),
        ),
        Phase.RESUMABLE,
        "HeadUnreachable",
        (DeleteCluster,),
    ),
    "head answers again": Case(
        running(workflow(state(Phase.RUNNING, cluster=RECORDED.model_copy(update={"unreachable_since": NOW - 9})))),
        Phase.RUNNING,
        "SubmissionRunning",
        expect={"cluster": RECORDED},
    ),
    "driver crashed, head lives": Case(
        running(submission=job(J.FAILED, 137, "killed")),
        Phase.RESUMABLE,
        "SubmissionFailed",
        says="exit code 137: killed",
        expect={"cluster": RECORDED},
    ),
    "driver crashed under Manual": Case(
        running(workflow(state(Phase.RUNNING), spec=MANUAL), submission=job(J.FAILED, 1)),
        Phase.RESUMABLE,
        "SubmissionFailed",
        (DeleteCluster,),
    ),
    "manager does not answer": Case(running(submission=job(J.FAILED, 5)), Phase.RESUMABLE, "ManagerUnresponsive"),
    "submission stopped by somebody": Case(running(submission=job(J.STOPPED)), Phase.RESUMABLE, "SubmissionStopped"),
    "submission ended without an end": Case(
        running(submission=job(J.SUCCEEDED, 0)), Phase.RESUMABLE, "SubmissionEndedEarly"
    ),
    "submission ended, log unread": Case(
        running(submission=job(J.SUCCEEDED, 0), run=RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")),
        Phase.RUNNING,
        "StoreUnavailable",
    ),
    "submission forgotten by the same head": Case(
        running(submission=job(J.UNKNOWN)), Phase.RUNNING, "Submitting", (SubmitRun,)
    ),
    "store down": Case(running(run=RunReadFailure(StoreFailure.UNAVAILABLE, "no")), Phase.RUNNING, "StoreUnavailable"),
    "log says succeeded, head dead": Case(
        failing(cluster(head=None), run=read(view(W.SUCCESSFUL, result_text="42"))),
        Phase.SUCCEEDED,
        "Succeeded",
        (DeleteCluster,),
        expect={"result": 42, "cluster": None, "completion_time": NOW - 1},
    ),
    "log says failed": Case(
        running(
            run=read(view(W.FAILED, reason="StepFailed", error=ErrorInfo("ValueError", "no seat", "line 7", "book")))
        ),
        Phase.FAILED,
        "StepFailed",
        (DeleteCluster,),
        says="step book: ValueError: no seat\nline 7",
    ),
    "log says canceled": Case(
        running(run=read(view(W.CANCELED, reason="Canceled"))), Phase.CANCELED, "Canceled", (DeleteCluster,)
    ),
    "taken over by another object": Case(
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
            "result_location": f"too large for the status: read it with workflow.get_output({build.ID!r})",
        },
    ),
    "a stranger's head is never deleted": Case(
        reused(job(J.FAILED, 1)), Phase.RESUMABLE, "SubmissionFailed", expect={"cluster": CHOSEN}
    ),
    "reused driver is stopped at a bad end": Case(
        reused(job(), run=read(view(W.CANCELED, reason="Canceled"))), Phase.CANCELED, "Canceled", (StopSubmission,)
    ),
    "cancel": Case(running(workflow(state(Phase.RUNNING), spec=CANCELED)), Phase.CANCELING, "CancelAsked"),
}


@pytest.mark.parametrize("case", RUNNING.values(), ids=RUNNING.keys())
def test_running(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("name", ["all is well", "head silent", "store down"])
def test_a_second_look_changes_nothing(name: str) -> None:
    case = RUNNING[name]
    first = decide(case.observation, NOW)
    again = replace(case.observation, workflow=replace(case.observation.workflow, state=first.state))
    second = decide(again, NOW + 5)
    assert second.state == first.state
    assert not second.actions


def test_progress_forgives_attempts_that_never_ran() -> None:
    before = state(Phase.RUNNING, resumes=Resumes(total=3, never_ran=3))
    decision = decide(running(workflow(before), run=read(view(counts=StepCounts(12, 8, 1)))), NOW)
    assert decision.state.resumes.never_ran == 0
    assert decision.state.steps.summary == "8/12"
