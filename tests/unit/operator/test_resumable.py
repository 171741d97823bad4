"""Decisions in phase Resumable: what is seen, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, read, seen, state, tombstone, view, workflow
from tests.unit.operator.cases import (
    CANCELED,
    CODED,
    FAILURE,
    MANUAL,
    NO_CODE,
    OTHER,
    RECORDED,
    RESUMABLE,
    Case,
    W,
    check,
)
from workflow_operator.api.status import ClusterStatus, CodeStatus, Ending, Phase, Resumes
from workflow_operator.core import names
from workflow_operator.core.actions import CreateCluster, DeleteCluster, EndRun
from workflow_operator.core.observation import Observation, RunReadFailure, StoreFailure


def resumable(obj: Any = None, run: Any = None, **changes: Any) -> Observation:
    return seen(obj or workflow(waiting()), run=run or read(view(), RESUMABLE), **changes)


def waiting(**changes: Any) -> Any:
    return state(Phase.RESUMABLE, **{"last_failure": FAILURE, "next_attempt_time": NOW - 1, "epoch": 1, **changes})


SECOND = names.cluster_name(build.NAME, build.UID, 2)
RESUMING = {
    "the wait is over": Case(
        resumable(),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"attempt": 2, "resumes": Resumes(total=1), "cluster": ClusterStatus(name=SECOND), "run_number": 1},
    ),
    "backing off": Case(resumable(workflow(waiting(next_attempt_time=NOW + 3))), Phase.RESUMABLE, "BackingOff"),
    "old cluster still there": Case(
        resumable(clusters=(cluster(deleting=True),)), Phase.RESUMABLE, "ClusterEnding", now=NOW
    ),
    "old cluster will not go": Case(
        resumable(clusters=(cluster(deleting=True),)), Phase.PROVISIONING, "Resuming", (CreateCluster,), now=NOW + 60
    ),
    "old cluster is deleted again": Case(
        resumable(clusters=(cluster(),)), Phase.RESUMABLE, "ClusterEnding", (DeleteCluster,)
    ),
    "same cluster again": Case(
        resumable(workflow(waiting(cluster=RECORDED)), named=cluster(), clusters=(cluster(),)),
        Phase.PROVISIONING,
        "Resuming",
        expect={"attempt": 2, "cluster": RECORDED.model_copy(update={"head": None})},
    ),
    "kept cluster died meanwhile": Case(
        resumable(workflow(waiting(cluster=RECORDED)), named=cluster(head=None), clusters=(cluster(head=None),)),
        Phase.RESUMABLE,
        "ClusterEnding",
        (DeleteCluster,),
        expect={"cluster": None},
    ),
    "manual waits": Case(
        resumable(workflow(waiting(), spec=MANUAL)), Phase.RESUMABLE, "WaitingForResume", says="rayworkflow.dev/resume"
    ),
    "manual told to go on": Case(
        resumable(workflow(waiting(), spec=MANUAL, annotations={names.RESUME_ANNOTATION: "1"})),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"resume_token": "1"},
    ),
    "manual, an old word": Case(
        resumable(workflow(waiting(resume_token="1"), spec=MANUAL, annotations={names.RESUME_ANNOTATION: "1"})),
        Phase.RESUMABLE,
        "WaitingForResume",
    ),
    "resumes used up": Case(
        resumable(run=read(view(epochs_without_progress=5, suspect_steps=("train",)), RESUMABLE)),
        Phase.RESUMABLE,
        "ResumesExhausted",
        (EndRun,),
        says="train, book; the last failure was HeadPodLost",
    ),
    "attempts used up": Case(
        resumable(workflow(waiting(resumes=Resumes(never_ran=5), epoch=0)), read()),
        Phase.RESUMABLE,
        "ResumesExhausted",
        (EndRun,),
    ),
    "progress keeps it going": Case(
        resumable(workflow(waiting(resumes=Resumes(total=40)))), Phase.PROVISIONING, "Resuming", (CreateCluster,)
    ),
    "ending is written again": Case(
        resumable(workflow(waiting(ending=Ending(status="FAILED", reason="ResumesExhausted", message="5 times")))),
        Phase.RESUMABLE,
        "ResumesExhausted",
        (EndRun,),
    ),
    "end is in the log": Case(
        resumable(run=read(view(W.FAILED, reason="ResumesExhausted"))), Phase.FAILED, "ResumesExhausted"
    ),
    "had succeeded before the head died": Case(resumable(run=read(view(W.SUCCESSFUL))), Phase.SUCCEEDED, "Succeeded"),
    "store down": Case(
        resumable(run=RunReadFailure(StoreFailure.UNAVAILABLE, "no")), Phase.RESUMABLE, "StoreUnavailable"
    ),
    "another object goes on": Case(resumable(run=read(view(owner=OTHER, epoch=2))), Phase.FAILED, "Superseded"),
    "id in use before it owned": Case(
        resumable(workflow(waiting(epoch=0)), read(view(owner=OTHER))), Phase.PENDING, "WorkflowIdInUse"
    ),
    "name swept": Case(
        resumable(workflow(waiting(epoch=0)), read(tombstone("Abandoned"))),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"run_number": 2, "run_id": names.run_uuid(build.UID, 2)},
    ),
    "kept code needs no config map": Case(
        resumable(workflow(waiting(), spec=CODED), read(view(code="abc"), RESUMABLE), config_map=NO_CODE),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"code": CodeStatus(config_map="", sha256="abc")},
    ),
    "spec broken meanwhile": Case(
        resumable(workflow(waiting(), spec=None, refusal="spec.entrypoint: no")), Phase.RESUMABLE, "InvalidSpec"
    ),
    "spec broken for too long": Case(
        resumable(workflow(waiting(), spec=None, refusal="spec.entrypoint: no")),
        Phase.RESUMABLE,
        "PreRunningDeadlineExceeded",
        (EndRun,),
        now=NOW + 1800,
    ),
    "cancel": Case(resumable(workflow(waiting(), spec=CANCELED)), Phase.CANCELING, "CancelAsked"),
}


@pytest.mark.parametrize("case", RESUMING.values(), ids=RESUMING.keys())
def test_resumable(case: Case) -> None:
    check(case)
