"""Decisions in the phase Pending."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, observation_of, read, spec, state, tombstone, view, workflow
from tests.unit.operator.cases import CANCELED, CODED, GOOD_CODE, NAMED, NO_CODE, OTHER, RESUMABLE, Case, W, check
from workflow_operator.api.status import ClusterStatus, CodeStatus, Phase
from workflow_operator.core import names
from workflow_operator.core.actions import AddFinalizer, CreateCluster, DeleteCluster
from workflow_operator.core.observation import (
    ConfigMapView,
    Defaults,
    Observation,
    RunReadFailure,
    SecretView,
    StoreFailure,
)


def pending(run: Any = None, spec_: Any = None, refusal: str = "", **changes: Any) -> Observation:
    obj = workflow(state(Phase.PENDING, 0), spec=None if refusal else spec_ or spec(), refusal=refusal)
    return observation_of(obj, run=run if run is not None else read(), **changes)


PENDING = {
    "new object gets a finalizer": Case(
        observation_of(workflow(finalizers=())), Phase.PENDING, "Accepting", (AddFinalizer,), expect={"phase_time": NOW}
    ),
    "start the first attempt": Case(
        pending(),
        Phase.PROVISIONING,
        "Provisioning",
        (CreateCluster,),
        expect={
            "attempt": 1,
            "run_number": 1,
            "workflow_id": build.ID,
            "storage": "s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000",
            "cluster": ClusterStatus(name=build.ATTEMPT_NAME),
        },
    ),
    "spec refused": Case(
        pending(refusal="spec.cluster: set one"), Phase.PENDING, "InvalidSpec", message="spec.cluster: set one"
    ),
    "no storage": Case(replace(pending(), defaults=Defaults(), run=None, secret=None), Phase.PENDING, "StorageMissing"),
    "secret missing": Case(
        replace(pending(), run=None, secret=SecretView("store", False)),
        Phase.PENDING,
        "SecretMissing",
        message="Secret store does not exist in namespace team: create it",
    ),
    "secret incomplete": Case(
        replace(pending(), run=None, secret=SecretView("store", True, ("AWS_SECRET_ACCESS_KEY",))),
        Phase.PENDING,
        "SecretIncomplete",
        message="is incomplete: add AWS_SECRET_ACCESS_KEY",
    ),
    "store down": Case(
        pending(RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")), Phase.PENDING, "StoreUnavailable"
    ),
    "wrong bucket": Case(
        pending(RunReadFailure(StoreFailure.REFUSED, "bucket 'checkpoints' does not exist")),
        Phase.PENDING,
        "StoreRefused",
        message="bucket 'checkpoints' does not exist (credentials from Secret store)",
        condition="Stalled",
    ),
    "log written by a newer version": Case(
        pending(RunReadFailure(StoreFailure.NEWER, "it was written by a newer version (rayworkflow 9)")),
        Phase.PENDING,
        "WrittenByNewerVersion",
        message="it was written by a newer version (rayworkflow 9)",
        condition="Stalled",
    ),
    "config map missing": Case(
        pending(spec_=CODED, config_map=NO_CODE),
        Phase.PENDING,
        "ConfigMapMissing",
        message="ConfigMap trip-code does not exist in namespace team: create it",
    ),
    "code refused": Case(
        pending(spec_=CODED, config_map=ConfigMapView("trip-code", True, refusal="rename workflow.py")),
        Phase.PENDING,
        "CodeRefused",
        message="rename workflow.py",
        condition="Stalled",
    ),
    "start with code": Case(
        pending(spec_=CODED, config_map=GOOD_CODE),
        Phase.PROVISIONING,
        "Provisioning",
        (CreateCluster,),
        expect={"code": CodeStatus(config_map="trip-code", sha256="abc")},
    ),
    "template refused": Case(
        pending(spec_=spec(cluster={"template": {"spec": {}}})),
        Phase.PENDING,
        "InvalidClusterTemplate",
        message="headGroupSpec is missing",
        condition="Stalled",
    ),
    "start with a selector": Case(
        pending(spec_=build.spec(build.SELECTING)),
        Phase.PROVISIONING,
        "Provisioning",
        expect={"cluster": None, "attempt": 1},
    ),
    "id in use": Case(
        pending(read(view(owner=OTHER)), NAMED),
        Phase.PENDING,
        "WorkflowIdInUse",
        message="in use by the Workflow with uid other-uid",
        expect={"blocked_since": NOW},
    ),
    "id in use until the deadline": Case(
        replace(
            pending(read(view(owner=OTHER)), NAMED),
            workflow=workflow(state(Phase.PENDING, 0, blocked_since=NOW - 1800), spec=NAMED),
        ),
        Phase.FAILED,
        "WorkflowIdInUse",
    ),
    "continue a released run": Case(
        pending(read(view(owner=OTHER, run_uuid="other"), RESUMABLE), NAMED),
        Phase.PROVISIONING,
        "Provisioning",
        (CreateCluster,),
        expect={"run_number": 1, "run_id": "other"},
    ),
    "id succeeded earlier": Case(
        pending(read(view(W.SUCCESSFUL, owner=OTHER, result_text='{"total": 7}')), NAMED),
        Phase.SUCCEEDED,
        "AlreadyCompleted",
        expect={"result": '{"total": 7}', "attempt": 0, "run_number": 1},
    ),
    "id failed earlier": Case(
        pending(read(view(W.FAILED, owner=OTHER, reason="StepFailed")), NAMED),
        Phase.FAILED,
        "WorkflowIdFinished",
        message="StepFailed",
    ),
    "id canceled earlier": Case(
        pending(read(tombstone("Canceled", owner=OTHER)), NAMED), Phase.FAILED, "WorkflowIdFinished"
    ),
    "id deleted earlier": Case(
        pending(read(tombstone("Deleted", run_number=2, owner=OTHER)), NAMED),
        Phase.PROVISIONING,
        "Provisioning",
        (CreateCluster,),
        expect={"run_number": 3, "run_id": names.run_uuid(build.UID, 3)},
    ),
    "status lost": Case(
        pending(read(view(owner=replace(view().owner, attempt=4)))),  # type: ignore[type-var]
        Phase.RESUMABLE,
        "AttemptFound",
        expect={"attempt": 4, "run_number": 1},
    ),
    "status lost, attempt from clusters": Case(
        pending(clusters=(cluster(3),)),
        Phase.PROVISIONING,
        "Provisioning",
        (DeleteCluster, CreateCluster),
        expect={"attempt": 4},
    ),
    "status lost, run succeeded": Case(pending(read(view(W.SUCCESSFUL))), Phase.SUCCEEDED, "Succeeded"),
    "canceled before the first attempt": Case(pending(spec_=CANCELED), Phase.CANCELED, "Canceled"),
    "canceled while another owner runs it": Case(
        replace(pending(read(view(owner=OTHER))), workflow=workflow(state(Phase.PENDING, 2), spec=CANCELED)),
        Phase.CANCELED,
        "Canceled",
    ),
    "blocked until the deadline": Case(
        pending(spec_=CODED, config_map=NO_CODE),
        Phase.FAILED,
        "PreRunningDeadlineExceeded",
        message="ConfigMap trip-code does not exist",
        now=NOW - 50 + 1800,
    ),
}


@pytest.mark.parametrize("case", PENDING.values(), ids=PENDING.keys())
def test_pending(case: Case) -> None:
    check(case)
