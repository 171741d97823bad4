"""Runs rounds of `decide` with fake clients, and asserts the operator's invariants in each round.

test_model.py uses it for random sequences of events, and test_single_faults.py for each single fault.
"""

from __future__ import annotations

from tests.unit.operator import build
from tests.unit.operator.clients import LIVE_JOBS, FakeClients, FakeCluster, Job, Run, selectable_cluster
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import HeadIdentity, Phase, WorkflowState
from workflow_operator.core import actions as acts
from workflow_operator.core import names
from workflow_operator.core.decide import decide
from workflow_operator.core.observation import Observation, RunRead
from workflow_operator.core.state import TERMINAL, TRANSITIONS

PHASE_OF = {
    WorkflowStatus.SUCCESSFUL: Phase.SUCCEEDED,
    WorkflowStatus.FAILED: Phase.FAILED,
    WorkflowStatus.CANCELED: Phase.CANCELED,
}
"""The phase of a Workflow for each terminal state in the log."""

FOREIGN_NAME = names.cluster_name(build.NAME, build.UID, 2)
OTHER = "other-uid"
MAX_RESUMES = 3
_ON_RUNS = acts.EndRun | acts.ReleaseRun | acts.RequestCancel | acts.DeleteCheckpoints


class OperatorModel:
    """One Workflow with fake clients.

    Args:
        kind: the features of the Workflow. `selecting`: it has a cluster selector. `coded`: its code is in a ConfigMap.
            `manual`: its recovery policy is Manual. `given`: its spec sets a workflow id. `foreign`: a cluster of
            another user has the name that the cluster of attempt 2 would get. `retaining`: it retains the cluster of
            a failed attempt.

    Attributes:
        foreign_uids: the uids of the clusters that the operator did not create.
        posted: the id and the head of the submission of each attempt.
        late: actions of suspended processes: they wrote the status, and execute the actions later.
    """

    def __init__(self, kind: frozenset[str] = frozenset()) -> None:
        spec: dict[str, object] = {
            "recovery": {"policy": "Manual" if "manual" in kind else "Automatic", "maxResumes": MAX_RESUMES}
        }
        if "coded" in kind:
            spec["code"] = {"configMap": {"name": "trip-code"}}
        if "given" in kind:
            spec["workflowId"] = "nightly"
        if "retaining" in kind:
            spec["cluster"] = {**build.SPEC["cluster"], "retain": "OnFailure", "retainSeconds": 600}
        self.clients = FakeClients(build.spec(build.SELECTING if "selecting" in kind else build.SPEC, **spec))
        copied = names.cluster_labels(build.NAME, build.UID, 1)  # a cluster that a user copied together with its labels
        self.clients.clusters = {name: selectable_cluster(name) for name in ("one", "two")}
        self.clients.clusters["copy"] = FakeCluster("copy", "uid-copy", copied, "")
        if "foreign" in kind:
            self.clients.clusters[FOREIGN_NAME] = FakeCluster(FOREIGN_NAME, "uid-foreign", {}, "")
        self.foreign_uids = {cluster.uid for cluster in self.clients.clusters.values()}
        self.posted: dict[int, tuple[str, HeadIdentity]] = {}
        self.late: list[acts.Action] = []

    def round(self, stop: int | None = None, lost: bool = False) -> float | None:
        """Run one round.

        Args:
            stop: the index of the action before which the process crashes, or None.
            lost: whether that action is executed later, as by a process that was only suspended.

        Returns:
            The seconds until the next round that `decide` requested.
        """
        return self.carry_out(self.clients.observe(), stop, lost)

    def carry_out(self, seen: Observation, stop: int | None = None, lost: bool = False) -> float | None:
        """Decide on an observation, which may be old, and execute the actions."""
        decision = decide(seen, self.clients.now)
        self._check(seen, decision)
        if not self.clients.patch(seen, decision.state):
            return 0.0
        for index, action in enumerate(decision.actions):
            if index == stop:
                self.late.extend([action] if lost else [])
                break
            if not self.act(action):
                break
        return decision.requeue_after

    def act(self, action: acts.Action) -> bool:
        """Execute one action."""
        if isinstance(action, acts.DeleteCluster):
            assert action.uid not in self.foreign_uids, "the operator never deletes a cluster that it did not create"
        done = self.clients.apply(action)
        if isinstance(action, acts.SubmitRun) and done:
            target = (action.submission_id, action.head.identity)
            assert self.posted.setdefault(action.run.attempt, target) == target, (
                "each attempt has one submission on one head"
            )
        return done

    def advance(self, rounds: int, drive: bool = True) -> None:
        """Run rounds of the operator without faults; heads start, and drivers continue if `drive` is set."""
        for _ in range(rounds):
            self.start_heads()
            if self.clients.exists:
                self.round()
            for cluster, job in self.jobs() if drive else ():
                self.clients.drive(cluster, job)

    def finish(self) -> None:
        """Remove all faults: the Workflow must become terminal by itself, and none of its clusters may remain."""
        clients = self.clients
        clients.store_up = clients.network_up = clients.code_exists = True
        for name in ("one", "two"):
            clients.clusters.setdefault(name, selectable_cluster(name))
        for action in self.late:
            self.act(action)
        for number in range(250):
            if not clients.exists or self._advance_to_terminal(number):
                break
        else:
            raise AssertionError(f"still {clients.state.phase}: {clients.state}")
        assert [cluster.name for cluster in clients.clusters.values() if cluster.owner_uid == build.UID] == []
        assert {"one", "two", "copy"} <= set(clients.clusters)

    def _advance_to_terminal(self, number: int) -> bool:
        clients = self.clients
        for cluster in clients.clusters.values():
            cluster.suspended = False
        clients.annotations[names.RESUME_ANNOTATION] = f"resume-{number}"
        run = self.newest()
        if run is not None and run.owner.uid == OTHER:
            run.alive = False
        self.start_heads()
        requeue = self.round()
        for cluster, job in self.jobs():
            clients.drive(cluster, job)
        clients.now += requeue or 0.1
        return clients.state.phase in TERMINAL and requeue is None and clients.deleted is None

    def start_heads(self) -> None:
        """Make all heads ready, except those of foreign clusters."""
        for cluster in self.clients.clusters.values():
            if not self.is_foreign(cluster) and not cluster.suspended:
                self.clients.start_head(cluster)

    def is_foreign(self, cluster: FakeCluster) -> bool:
        """Return whether the Workflow neither owns nor may select a cluster."""
        return cluster.uid in ("uid-foreign", "uid-copy")

    def jobs(self) -> list[tuple[FakeCluster, Job]]:
        """Return the pending and running submissions with their clusters."""
        return [(c, job) for c in self.clients.clusters.values() for job in c.jobs.values() if job.state in LIVE_JOBS]

    def newest(self) -> Run | None:
        """Return the run with the highest number, or None."""
        return self.clients.log[max(self.clients.log)] if self.clients.log else None

    def _check(self, seen: Observation, decision: acts.Decision) -> None:
        before, after = seen.workflow.state, decision.state
        assert after.phase is not None
        old = before.phase or Phase.PENDING
        targets = {target for (phase, _), target in TRANSITIONS.items() if phase is old}
        assert after.phase is old or after.phase in targets
        assert after.attempt >= before.attempt
        assert after.epoch >= before.epoch
        assert after.resumes.total >= before.resumes.total
        assert after.resumes.never_ran <= MAX_RESUMES
        assert after.phase in TERMINAL or decision.requeue_after is not None or not seen.workflow.finalizers
        assert WorkflowState.model_validate(after.model_dump(mode="json", by_alias=True)) == after
        for action in decision.actions:
            _check_action(after, action)
        if old not in TERMINAL and seen.workflow.deleted is None:
            _check_end(seen, after)


def _check_action(after: WorkflowState, action: acts.Action) -> None:
    if isinstance(action, acts.SubmitRun):
        assert after.cluster is not None
        assert after.submission is not None
        assert (after.cluster.head, after.submission.id) == (action.head.identity, action.submission_id)
    if isinstance(action, acts.DeleteCluster):
        assert after.cluster is None or action.name != after.cluster.name, "a cluster in use is never deleted"
    if isinstance(action, _ON_RUNS):
        assert after.attempt > 0, "a Workflow without a submission owns no run"


def _check_end(seen: Observation, after: WorkflowState) -> None:
    """Check that the phase agrees with the log of this Workflow's run, and that Succeeded needs a successful run."""
    view = seen.run.view if isinstance(seen.run, RunRead) else None
    is_own_run = view is not None and not view.tombstone and view.owner is not None and view.owner.uid == build.UID
    if view is not None and is_own_run and view.status.is_terminal:
        assert after.phase is PHASE_OF[view.status]
    if view is not None and is_own_run and not view.status.is_terminal:
        assert after.phase not in TERMINAL
    if after.phase is Phase.SUCCEEDED:
        assert view is not None
        assert view.status is WorkflowStatus.SUCCESSFUL
