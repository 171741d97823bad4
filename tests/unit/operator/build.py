"""Values for the tests of the operator's core, each with defaults that say "all is well"."""

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
    """A spec, from the JSON of one with some of its fields replaced."""
    return WorkflowSpec.model_validate({**base, **changes})


def workflow(state: WorkflowState | None = None, **changes: Any) -> WorkflowObject:
    """An object that was accepted and is not being deleted."""
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
    """A status in this phase; with an attempt, a cluster whose head was recorded, and its submission."""
    begun: dict[str, Any] = {}
    if attempt:
        begun = {
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
        begun["cluster"] = ClusterStatus(name=name, uid="cluster-1", head=HEAD)
        begun["submission"] = SubmissionStatus(id=names.submission_id(UID, attempt))
    return WorkflowState(phase=phase, phase_time=NOW - 50).model_copy(update={**begun, **changes})


def head(**changes: Any) -> HeadView:
    """A head that is ready."""
    plain = HeadView("head-pod", HEAD, ip="198.18.0.5", phase="Running", running=True, ready=True)
    return replace(plain, **changes)


def cluster(attempt: int = 1, **changes: Any) -> ClusterView:
    """The cluster of an attempt, ready, with a token."""
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
    """A run of this object's first attempt, with seven of twelve steps done."""
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
    """A name under which no run may be made."""
    return view(status, **{"tombstone": True, "epoch": 0, "run_uuid": "", "reason": reason, **changes})


def read(seen: RunView | None = None, liveness: WorkflowStatus | None = None, staged: bool = False) -> RunRead:
    """The log as it was read; an owner lives unless told otherwise."""
    return RunRead(seen, liveness or (seen.status if seen else None), staged)


def job(said: JobState = JobState.RUNNING, exit_code: int | None = None, message: str = "") -> SubmissionView:
    """The head's answer."""
    return SubmissionView(said, exit_code, message)


def seen(obj: WorkflowObject, **changes: Any) -> Observation:
    """A round in which the log is empty and the Secret is whole."""
    plain = Observation(obj, DEFAULTS, run=read(), secret=SecretView("store", True))
    return replace(plain, **changes)


def running(obj: WorkflowObject | None = None, **changes: Any) -> Observation:
    """A round in which all is well: cluster and head stand, the submission runs, the log says so."""
    mine = cluster()
    plain = seen(
        obj or workflow(state(Phase.RUNNING)), clusters=(mine,), named=mine, submission=job(), run=read(view())
    )
    return replace(plain, **changes)
