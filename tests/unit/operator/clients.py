"""Fake clients for the model tests: an API server, RayClusters, heads with jobs, a log, and a user.

The fakes implement the rules of the log for claims, and do not use `decide`. Each possible event is a method. The state
machine in test_model.py calls these methods in random order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.operator import build
from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import HeadIdentity, WorkflowState
from workflow_operator.core import actions as acts
from workflow_operator.core import names
from workflow_operator.core.log_view import Owner, RunView, StepCounts, WorkflowStatus
from workflow_operator.core.observation import (
    ClusterView,
    ConfigMapView,
    HeadUnreachable,
    HeadView,
    JobState,
    Observation,
    RunRead,
    RunReadFailure,
    SecretView,
    StoreFailure,
    SubmissionView,
    WorkflowObject,
)
from workflow_operator.core.read_plan import head_to_query, read_plan

STEPS = 6
LIVE_JOBS = (JobState.PENDING, JobState.RUNNING)


@dataclass
class Job:
    """A submission that a head knows."""

    attempt: int
    run_number: int
    run_uuid: str
    uid: str
    state: JobState = JobState.PENDING
    exit_code: int | None = None


@dataclass
class FakeCluster:
    """A RayCluster with at most one head, and the submissions that this head knows."""

    name: str
    uid: str
    labels: dict[str, str]
    owner_uid: str
    head: HeadIdentity | None = None
    ready: bool = False
    suspended: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)

    def view(self) -> ClusterView:
        """Return the cluster as the adapter would read it."""
        head = None
        if self.head is not None:
            head = HeadView("head", self.head, "198.18.0.9", "Running", running=True, ready=self.ready)
        return ClusterView(
            self.name, self.uid, build.NOW, self.labels, self.owner_uid, self.ready, self.suspended, head=head
        )


@dataclass
class Run:
    """A run in the log, or a tombstone."""

    run_number: int
    run_uuid: str
    owner: Owner
    epoch: int = 1
    status: WorkflowStatus = WorkflowStatus.RUNNING
    committed: int = 0
    epochs_without_progress: int = 0
    alive: bool = True
    tombstone: bool = False
    reason: str = ""

    def claim(self, owner: Owner) -> None:
        """Start the next epoch."""
        self.epochs_without_progress += self.status is WorkflowStatus.RUNNING
        self.epoch, self.owner = self.epoch + 1, owner
        self.status, self.alive = WorkflowStatus.RUNNING, True


@dataclass
class FakeClients:
    """The state of all external systems, and the actions of the operator on them.

    Attributes:
        created: the number of clusters and heads so far, used for their identities.
        log: the runs under the workflow id, by run number.
        store_up: whether the log can be read and written.
        code_exists: whether the ConfigMap with the code exists.
        network_up: whether the heads reply.
        staged: the digests of the copies of the code in the blobs.
        deferred: the kinds of the recorded deferred cleanups.
        store_failure: why the log cannot be read while the store is not up.
        driver_logs: the submission ids whose logs were stored.
    """

    spec: WorkflowSpec
    now: float = build.NOW
    state: WorkflowState = field(default_factory=WorkflowState)
    version: int = 1
    finalizers: tuple[str, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    deleted: float | None = None
    exists: bool = True
    clusters: dict[str, FakeCluster] = field(default_factory=dict)
    created: int = 0
    log: dict[int, Run] = field(default_factory=dict)
    store_up: bool = True
    code_exists: bool = True
    network_up: bool = True
    staged: set[str] = field(default_factory=set)
    deferred: list[str] = field(default_factory=list)
    store_failure: StoreFailure = StoreFailure.UNAVAILABLE
    driver_logs: list[str] = field(default_factory=list)

    # Reads and actions of the operator.

    def workflow(self) -> WorkflowObject:
        """Return the Workflow in its current state."""
        return build.workflow(
            self.state,
            spec=self.spec,
            resource_version=str(self.version),
            finalizers=self.finalizers,
            annotations=dict(self.annotations),
            deleted=self.deleted,
        )

    def observe(self) -> Observation:
        """Return the observation of a round, with the same reads as `observe`."""
        workflow = self.workflow()
        plan = read_plan(workflow, build.DEFAULTS)
        views = {name: cluster.view() for name, cluster in self.clusters.items()}
        named = views.get(plan.cluster)
        head = head_to_query(workflow, named)
        return Observation(
            workflow,
            build.DEFAULTS,
            clusters=tuple(view for view in views.values() if view.labels.get(names.UID_LABEL) == build.UID),
            named=named,
            candidates=tuple(
                view for view in views.values() if plan.selector and plan.selector.items() <= view.labels.items()
            ),
            submission=self._submission(head, plan.submission) if head and plan.submission else None,
            run=self._read(plan.code),
            secret=SecretView("store", True),
            config_map=ConfigMapView("trip-code", self.code_exists, "abc" if self.code_exists else ""),
        )

    def patch(self, seen: Observation, state: WorkflowState) -> bool:
        """Write the status, if the resource version is still the observed one."""
        if not self.exists or seen.workflow.resource_version != str(self.version):
            return False
        self.state, self.version = state, self.version + 1
        return True

    def apply(self, action: acts.Action) -> bool:
        """Execute an action; return whether it succeeded."""
        if isinstance(action, acts.EmitEvent):
            return True
        name = re.sub(r"(?<!^)([A-Z])", r"_\1", type(action).__name__).lower()
        return bool(getattr(self, f"_{name}")(action))

    def _submission(self, head: acts.HeadRef, submission: str) -> SubmissionView | HeadUnreachable:
        if not self.network_up:
            return HeadUnreachable("no answer")
        job = self.clusters[head.cluster].jobs.get(submission)
        return SubmissionView(job.state, job.exit_code) if job else SubmissionView(JobState.UNKNOWN)

    def _read(self, code: str) -> RunRead | RunReadFailure:
        if not self.store_up:
            return RunReadFailure(self.store_failure, "no answer")
        if not self.log:
            return RunRead(code_staged=code in self.staged)
        run = self.log[max(self.log)]
        liveness = run.status
        if run.status is WorkflowStatus.RUNNING and not run.alive:
            liveness = WorkflowStatus.RESUMABLE
        return RunRead(_view(run), liveness, code in self.staged)

    def _add_finalizer(self, action: acts.AddFinalizer) -> bool:
        self.finalizers, self.version = (names.FINALIZER,), self.version + 1
        return True

    def _remove_finalizer(self, action: acts.RemoveFinalizer) -> bool:
        self.finalizers, self.version = (), self.version + 1
        self.exists = self.deleted is None
        for cluster in [c for c in self.clusters.values() if c.owner_uid == build.UID and not self.exists]:
            self.remove_cluster(cluster)  # as the garbage collector of Kubernetes does
        return True

    def _create_cluster(self, action: acts.CreateCluster) -> bool:
        if action.name not in self.clusters:
            meta = action.manifest["metadata"]
            self.created += 1
            owner = meta["ownerReferences"][0]["uid"]
            if not self.exists:
                return True  # its owner was deleted, so Kubernetes deletes it at once
            self.clusters[action.name] = FakeCluster(action.name, f"rc-{self.created}", meta["labels"], owner)
        return True

    def _delete_cluster(self, action: acts.DeleteCluster) -> bool:
        cluster = self.clusters.get(action.name)
        if cluster is not None and cluster.uid == action.uid:
            self.remove_cluster(cluster)
        return True

    def _stage_code(self, action: acts.StageCode) -> bool:
        if not self.store_up or not (self.code_exists or action.sha256 in self.staged):
            return False
        self.staged.add(action.sha256)
        return True

    def _stage_args(self, action: acts.StageArgs) -> bool:
        return self.store_up

    def _submit_run(self, action: acts.SubmitRun) -> bool:
        cluster = self.clusters.get(action.head.cluster)
        if cluster is None or cluster.head != action.head.identity or not self.network_up:
            return False
        run = action.run
        cluster.jobs.setdefault(action.submission_id, Job(run.attempt, run.run_number, run.run_uuid, run.uid))
        return True

    def _stop_submission(self, action: acts.StopSubmission) -> bool:
        cluster = self.clusters.get(action.head.cluster)
        job = cluster.jobs.get(action.submission_id) if cluster else None
        if job is not None and job.state in LIVE_JOBS:
            job.state = JobState.STOPPED
        return self.network_up

    def _store_driver_log(self, action: acts.StoreDriverLog) -> bool:
        if self.network_up and self.store_up:
            self.driver_logs.append(action.submission_id)
        return True

    def _request_cancel(self, action: acts.RequestCancel) -> bool:
        run = self.log.get(action.run.run_number)
        if self.store_up and run is not None and not run.status.is_terminal and run.alive:
            run.status, run.reason = WorkflowStatus.CANCELED, "Canceled"
        return self.store_up

    def _end_run(self, action: acts.EndRun) -> bool:
        if action.only_absent and action.run.run_number in self.log:
            return self.store_up
        return self.store_up and self._change_from_operator(action.run, WorkflowStatus(action.status), action.reason)

    def _release_run(self, action: acts.ReleaseRun) -> bool:
        return self.store_up and self._change_from_operator(action.run, WorkflowStatus.RESUMABLE, "")

    def _delete_checkpoints(self, action: acts.DeleteCheckpoints) -> bool:
        run = self.log.get(action.run.run_number)
        if not self.store_up or run is None or run.tombstone or run.owner.uid != action.run.uid:
            return self.store_up
        if not run.status.is_terminal:
            self._change_from_operator(action.run, WorkflowStatus.CANCELED, "Deleted")
        if max(self.log) == run.run_number:
            self.log[run.run_number + 1] = _tombstone(
                run.run_number + 1, WorkflowStatus.CANCELED, "Deleted", action.run.uid
            )
        return True

    def _defer_cleanup(self, action: acts.DeferCleanup) -> bool:
        self.deferred.append(action.what)
        return True

    def _change_from_operator(self, ref: acts.RunRef, status: WorkflowStatus, reason: str) -> bool:
        """Change a run as `requests.end_run` and `requests.release_run` do."""
        run = self.log.get(ref.run_number)
        if run is None:
            if status is not WorkflowStatus.RESUMABLE and ref.run_number > max(self.log, default=0):
                self.log[ref.run_number] = _tombstone(ref.run_number, status, reason, ref.uid)
            return True
        mine = run.owner.uid == ref.uid and run.owner.attempt <= ref.attempt
        if run.tombstone or run.status.is_terminal or not (mine or run.status is WorkflowStatus.RESUMABLE):
            return True
        run.claim(Owner("outside", uid=ref.uid, attempt=ref.attempt))
        run.status, run.reason, run.alive = status, reason, False
        return True

    # Events of clusters, drivers, managers and users.

    def remove_cluster(self, cluster: FakeCluster) -> None:
        """Delete a cluster together with its managers."""
        del self.clusters[cluster.name]
        self._expire_heartbeats(cluster)

    def lose_head(self, cluster: FakeCluster) -> None:
        """Remove the head of a cluster together with its managers and submissions."""
        self._expire_heartbeats(cluster)
        cluster.head, cluster.ready, cluster.jobs = None, False, {}

    def start_head(self, cluster: FakeCluster, pod_uid: str = "") -> None:
        """Make the head of a cluster ready; a pod uid means that the same pod continues."""
        if cluster.head is None:
            self.created += 1
            cluster.head = HeadIdentity(pod_uid=pod_uid or f"pod-{self.created}", container_id=f"c-{self.created}")
        cluster.ready = True

    def manager(self, cluster: FakeCluster) -> str:
        """Return the name of the manager on the head of a cluster."""
        return f"manager-{cluster.head.container_id}" if cluster.head else ""

    def drive(self, cluster: FakeCluster, job: Job) -> None:
        """Let the driver make its next change: start, own the run, commit a step, or finish."""
        if job.state is JobState.PENDING:
            job.state = JobState.RUNNING
            return
        if not self.store_up or job.state is not JobState.RUNNING:
            return
        code = self._enter(cluster, job)
        if code is not None:
            job.state, job.exit_code = (JobState.FAILED if code else JobState.SUCCEEDED), code
            return
        run = self.log[job.run_number]
        if run.committed < STEPS:
            run.committed, run.epochs_without_progress = run.committed + 1, 0
        else:
            run.status, run.reason = WorkflowStatus.SUCCESSFUL, ""

    def break_cluster(self, cluster: FakeCluster, kind: str) -> None:
        """Break a cluster: its head dies, the head container restarts, it is suspended, or it is deleted."""
        if kind == "deleted":
            self.remove_cluster(cluster)
            return
        cluster.suspended = kind == "queue" and not cluster.suspended
        before = cluster.head
        self.lose_head(cluster)
        if kind == "container restarts" and before is not None:
            self.start_head(cluster, before.pod_uid)

    def cancel(self) -> None:
        """Set spec.cancel, as a user does."""
        self.spec, self.version = self.spec.model_copy(update={"cancel": True}), self.version + 1

    def delete(self) -> None:
        """Delete the Workflow, as a user does."""
        if self.deleted is None:
            self.deleted, self.version = self.now, self.version + 1
            self.exists = bool(self.finalizers)

    def fail_driver(self, job: Job, code: int) -> None:
        """End a driver with an exit code; its manager continues."""
        if job.state in LIVE_JOBS:
            job.state, job.exit_code = JobState.FAILED, code

    def _enter(self, cluster: FakeCluster, job: Job) -> int | None:
        """Create, attach to or claim the run; return an exit code if the driver must exit instead."""
        run = self.log.get(job.run_number)
        me = Owner(self.manager(cluster), "process", "address", job.uid, job.attempt)
        if run is None:
            if self.log and max(self.log) > job.run_number:
                return 3
            self.log[job.run_number] = Run(job.run_number, job.run_uuid, me)
            return None
        if run.tombstone or max(self.log) > job.run_number:
            return 3
        if run.status.is_terminal:
            return 0
        if run.owner.manager == me.manager and run.alive and run.status is WorkflowStatus.RUNNING:
            return None
        if run.owner.uid == job.uid and run.owner.attempt >= job.attempt:
            return 3
        if run.owner.uid != job.uid and run.alive and run.status is WorkflowStatus.RUNNING:
            return 4
        run.claim(me)
        return None

    def _expire_heartbeats(self, cluster: FakeCluster) -> None:
        for run in self.log.values():
            if cluster.head is not None and run.owner.manager == self.manager(cluster):
                run.alive = False


def _view(run: Run) -> RunView:
    if run.tombstone:
        return build.tombstone(run.reason, run.status, run_number=run.run_number, owner=run.owner)
    return build.view(
        run.status,
        run_number=run.run_number,
        run_uuid=run.run_uuid,
        epoch=run.epoch,
        owner=run.owner,
        counts=StepCounts(STEPS, run.committed, 0, 0),
        epochs_without_progress=run.epochs_without_progress,
        reason=run.reason,
    )


def _tombstone(run_number: int, status: WorkflowStatus, reason: str, uid: str) -> Run:
    return Run(run_number, "", Owner("", uid=uid), 0, status, tombstone=True, alive=False, reason=reason)


def selectable_cluster(name: str, **changes: Any) -> FakeCluster:
    """Return a cluster that a selector matches and no Workflow owns."""
    return replace(FakeCluster(name, f"uid-{name}", {"pool": "a"}, ""), **changes)
