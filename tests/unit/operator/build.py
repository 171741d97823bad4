"""Values for the tests of the operator's core; the defaults describe a Workflow without faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import ClusterStatus, HeadIdentity, Phase, SubmissionStatus, WorkflowState
from workflow_operator.core import names
from workflow_operator.core.log_view import Owner, RunView, StepCounts, WorkflowStatus
from workflow_operator.core.observation import (
    ClusterView,
    Defaults,
    HeadView,
    JobState,
    Observation,
    RunRead,
    SecretView,
    SubmissionView,
    WorkflowObject,
)

NOW = 1_000_000.0
UID = "9f3c1a2b-0000-4000-8000-00000000abcd"
NAME, NAMESPACE = "trip", "team"
ID = f"{NAMESPACE}.{NAME}.{UID}"
HEAD = HeadIdentity(pod_uid="pod-1", container_id="containerd://1")
TEMPLATE: dict[str, Any] = {
    "headGroupSpec": {"template": {"spec": {"containers": [{"name": "ray-head", "image": "rayproject/ray:2.60.0"}]}}}
}
SPEC: dict[str, Any] = {"entrypoint": "trip:book_trip", "cluster": {"template": {"spec": TEMPLATE}}}
SELECTING: dict[str, Any] = {"entrypoint": "trip:book_trip", "cluster": {"selector": {"matchLabels": {"pool": "a"}}}}
DEFAULTS = Defaults(storage_uri="s3://checkpoints/all", storage_endpoint="http://minio:9000", storage_secret="store")
ATTEMPT_NAME = names.cluster_name(NAME, UID, 1)


def spec(base: dict[str, Any] = SPEC, **changes: Any) -> WorkflowSpec:
    """Return a spec from JSON with some fields replaced."""
    return WorkflowSpec.model_validate({**base, **changes})


def workflow(state: WorkflowState | None = None, **changes: Any) -> WorkflowObject:
    """Return an accepted Workflow that is not being deleted."""
    plain = WorkflowObject(
        name=NAME,
        namespace=NAMESPACE,
        uid=UID,
        generation=3,
        resource_version="7",
        created=NOW - 100,
        spec=spec(),
        state=state or WorkflowState(),
        finalizers=(names.FINALIZER,),
    )
    return replace(plain, **changes)


def state(phase: Phase, attempt: int = 1, **changes: Any) -> WorkflowState:
    """Return a status in a phase; from the first attempt on, with a recorded head and a submission."""
    started: dict[str, Any] = {}
    if attempt:
        started = {
            "attempt": attempt,
            "attempt_time": NOW - 50,
            "run_number": 1,
            "run_id": names.run_uuid(UID, 1),
            "workflow_id": ID,
            "storage": "s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000",
            "secret_name": "store",
        }
    if attempt and phase in (Phase.PROVISIONING, Phase.RUNNING, Phase.CANCELING):
        name = names.cluster_name(NAME, UID, attempt)
        started["cluster"] = ClusterStatus(name=name, uid="cluster-1", head=HEAD)
        started["submission"] = SubmissionStatus(id=names.submission_id(UID, attempt))
    return WorkflowState(phase=phase, phase_time=NOW - 50).model_copy(update={**started, **changes})


def head(**changes: Any) -> HeadView:
    """Return a ready head."""
    plain = HeadView("head-pod", HEAD, ip="198.18.0.5", phase="Running", running=True, ready=True)
    return replace(plain, **changes)


def cluster(attempt: int = 1, **changes: Any) -> ClusterView:
    """Return the ready cluster of an attempt, which requires a token."""
    name = names.cluster_name(NAME, UID, attempt)
    plain = ClusterView(
        name=name,
        uid=f"cluster-{attempt}",
        created=NOW - 40,
        labels=names.cluster_labels(NAME, UID, attempt),
        owner_uid=UID,
        ready=True,
        head=head(),
        token_secret=name,
    )
    return replace(plain, **changes)


def view(status: WorkflowStatus = WorkflowStatus.RUNNING, **changes: Any) -> RunView:
    """Return a run of the first attempt, with seven of twelve steps succeeded."""
    plain = RunView(
        workflow_id=ID,
        run_number=1,
        run_uuid=names.run_uuid(UID, 1),
        status=status,
        epoch=1,
        owner=Owner("manager-1", "process-1", "manager-1", UID, 1),
        created=NOW - 30,
        ended=NOW - 1 if status.is_terminal else None,
        reason="",
        error=None,
        counts=StepCounts(total=12, succeeded=7, running=2),
        steps=(),
        result_text=None,
        epochs_without_progress=0,
        suspect_steps=(),
        next_seq=9,
    )
    return replace(plain, **changes)


def tombstone(reason: str, status: WorkflowStatus = WorkflowStatus.CANCELED, **changes: Any) -> RunView:
    """Return a tombstone."""
    return view(status, **{"tombstone": True, "epoch": 0, "run_uuid": "", "reason": reason, **changes})


def read(run: RunView | None = None, liveness: WorkflowStatus | None = None, staged: bool = False) -> RunRead:
    """Return a read of the log; the heartbeat of an owner is valid unless `liveness` is given."""
    return RunRead(run, liveness or (run.status if run else None), staged)


def job(reported: JobState = JobState.RUNNING, exit_code: int | None = None, message: str = "") -> SubmissionView:
    """Return a reply of the head."""
    return SubmissionView(reported, exit_code, message)


def observation_of(obj: WorkflowObject, **changes: Any) -> Observation:
    """Return the observation of a round with an empty log and a complete Secret."""
    plain = Observation(obj, DEFAULTS, run=read(), secret=SecretView("store", True))
    return replace(plain, **changes)


def running(obj: WorkflowObject | None = None, **changes: Any) -> Observation:
    """Return the observation of a round without faults, in which head and submission are running."""
    mine = cluster()
    plain = observation_of(
        obj or workflow(state(Phase.RUNNING)), clusters=(mine,), named=mine, submission=job(), run=read(view())
    )
    return replace(plain, **changes)
