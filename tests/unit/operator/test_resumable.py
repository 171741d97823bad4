"""Decisions in the phase Resumable."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, observation_of, read, state, tombstone, view, workflow
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
    return observation_of(obj or workflow(waiting()), run=run or read(view(), RESUMABLE), **changes)


def waiting(**changes: Any) -> Any:
    return state(Phase.RESUMABLE, **{"last_failure": FAILURE, "next_attempt_time": NOW - 1, "epoch": 1, **changes})


REFUSED = Ending(status="FAILED", reason="EntrypointInvalid", message="no args")
SECOND = names.cluster_name(build.NAME, build.UID, 2)
RESUMING = {
    "resume after the delay": Case(
        resumable(),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"attempt": 2, "resumes": Resumes(total=1), "cluster": ClusterStatus(name=SECOND), "run_number": 1},
    ),
    "delay before the resume": Case(
        resumable(workflow(waiting(next_attempt_time=NOW + 3))), Phase.RESUMABLE, "BackingOff"
    ),
    "old cluster is being deleted": Case(
        resumable(clusters=(cluster(deleting=True),)), Phase.RESUMABLE, "ClusterTerminating", now=NOW
    ),
    "old cluster outlives the time limit": Case(
        resumable(clusters=(cluster(deleting=True),)), Phase.PROVISIONING, "Resuming", (CreateCluster,), now=NOW + 60
    ),
    "delete an old cluster": Case(
        resumable(clusters=(cluster(),)), Phase.RESUMABLE, "ClusterTerminating", (DeleteCluster,)
    ),
    "reuse the cluster": Case(
        resumable(workflow(waiting(cluster=RECORDED)), named=cluster(), clusters=(cluster(),)),
        Phase.PROVISIONING,
        "Resuming",
        expect={"attempt": 2, "cluster": RECORDED.model_copy(update={"head": None})},
    ),
    "reused cluster has failed": Case(
        resumable(workflow(waiting(cluster=RECORDED)), named=cluster(head=None), clusters=(cluster(head=None),)),
        Phase.RESUMABLE,
        "ClusterTerminating",
        (DeleteCluster,),
        expect={"cluster": None},
    ),
    "manual policy waits": Case(
        resumable(workflow(waiting(), spec=MANUAL)),
        Phase.RESUMABLE,
        "WaitingForResume",
        message="rayworkflow.dev/resume",
    ),
    "manual policy resumes on request": Case(
        resumable(workflow(waiting(), spec=MANUAL, annotations={names.RESUME_ANNOTATION: "1"})),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"resume_token": "1"},
    ),
    "manual policy ignores an old request": Case(
        resumable(workflow(waiting(resume_token="1"), spec=MANUAL, annotations={names.RESUME_ANNOTATION: "1"})),
        Phase.RESUMABLE,
        "WaitingForResume",
    ),
    "resumes exhausted by epochs": Case(
        resumable(run=read(view(epochs_without_progress=5, suspect_steps=("train",)), RESUMABLE)),
        Phase.RESUMABLE,
        "ResumesExhausted",
        (EndRun,),
        message="train, book; the last failure was HeadPodLost",
    ),
    "resumes exhausted by attempts": Case(
        resumable(workflow(waiting(resumes=Resumes(never_ran=5), epoch=0)), read()),
        Phase.RESUMABLE,
        "ResumesExhausted",
        (EndRun,),
    ),
    "progress resets the count": Case(
        resumable(workflow(waiting(resumes=Resumes(total=40)))), Phase.PROVISIONING, "Resuming", (CreateCluster,)
    ),
    "resumes exhausted, another owner released the run": Case(
        resumable(workflow(waiting(resumes=Resumes(never_ran=5), epoch=0)), read(view(owner=OTHER), RESUMABLE)),
        Phase.FAILED,
        "ResumesExhausted",
    ),
    "input refused, no run": Case(
        resumable(workflow(waiting(ending=REFUSED, epoch=0)), read()), Phase.RESUMABLE, "EntrypointInvalid", (EndRun,)
    ),
    "input refused, and the run was created later": Case(
        resumable(workflow(waiting(ending=REFUSED))),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"ending": None},
    ),
    "input refused, and another owner released the run": Case(
        resumable(workflow(waiting(ending=REFUSED, epoch=0)), read(view(owner=OTHER), RESUMABLE)),
        Phase.FAILED,
        "EntrypointInvalid",
    ),
    "repeat the terminal state": Case(
        resumable(workflow(waiting(ending=Ending(status="FAILED", reason="ResumesExhausted", message="no progress")))),
        Phase.RESUMABLE,
        "ResumesExhausted",
        (EndRun,),
    ),
    "log contains FAILED": Case(
        resumable(run=read(view(W.FAILED, reason="ResumesExhausted"))), Phase.FAILED, "ResumesExhausted"
    ),
    "log contains SUCCESSFUL": Case(resumable(run=read(view(W.SUCCESSFUL))), Phase.SUCCEEDED, "Succeeded"),
    "store down": Case(
        resumable(run=RunReadFailure(StoreFailure.UNAVAILABLE, "no")), Phase.RESUMABLE, "StoreUnavailable"
    ),
    "another Workflow took over": Case(resumable(run=read(view(owner=OTHER, epoch=2))), Phase.FAILED, "Superseded"),
    "id in use before it owned a run": Case(
        resumable(workflow(waiting(epoch=0)), read(view(owner=OTHER))), Phase.PENDING, "WorkflowIdInUse"
    ),
    "run abandoned": Case(
        resumable(workflow(waiting(epoch=0)), read(tombstone("Abandoned"))),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"run_number": 2, "run_id": names.run_uuid(build.UID, 2)},
    ),
    "stored code needs no ConfigMap": Case(
        resumable(workflow(waiting(), spec=CODED), read(view(code="abc"), RESUMABLE), config_map=NO_CODE),
        Phase.PROVISIONING,
        "Resuming",
        (CreateCluster,),
        expect={"code": CodeStatus(config_map="", sha256="abc")},
    ),
    "spec became invalid": Case(
        resumable(workflow(waiting(), spec=None, refusal="spec.entrypoint: no")), Phase.RESUMABLE, "InvalidSpec"
    ),
    "spec invalid until the deadline, run exists": Case(
        resumable(
            workflow(waiting(cluster=RECORDED), spec=None, refusal="spec.entrypoint: no"),
            named=cluster(),
            clusters=(cluster(),),
        ),
        Phase.RESUMABLE,
        "InvalidSpec",
        (DeleteCluster,),
        now=NOW + 1800,
        expect={"ending": None, "cluster": None},
    ),
    "spec invalid until the deadline, no run": Case(
        resumable(workflow(waiting(epoch=0), spec=None, refusal="spec.entrypoint: no"), read()),
        Phase.RESUMABLE,
        "PreRunningDeadlineExceeded",
        (EndRun,),
        now=NOW + 1800,
    ),
    "cancel": Case(resumable(workflow(waiting(), spec=CANCELED)), Phase.CANCELING, "Canceling"),
}


@pytest.mark.parametrize("case", RESUMING.values(), ids=RESUMING.keys())
def test_resumable(case: Case) -> None:
    check(case)
