"""Runs rounds of `decide` in a `World`, and asserts the operator's invariants at each of them.

Shared by the random walk (test_model.py) and the walk through every single fault (test_single_faults.py).
"""

from __future__ import annotations

from tests.unit.operator import build
from tests.unit.operator.clients import LIVE_JOBS, Clients, FakeCluster, Job, Run, selected
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
"""What a Workflow is once the log of its run says so."""

STRANGER = names.cluster_name(build.NAME, build.UID, 2)
OTHER = "other-uid"
MAX_RESUMES = 3
_ON_RUNS = acts.EndRun | acts.ReleaseRun | acts.RequestCancel | acts.DeleteCheckpoints


class Pilot:
    """One Workflow and its world.

    Args:
        kind: any of selecting, coded, manual, given, stranger: what the Workflow says, and whether somebody's cluster
        has a
            name that we may come to want.

    Attributes:
        posted: for each attempt the id and the head of its submission.
        late: effects of processes that stood still after their PATCH.
    """

    def __init__(self, kind: frozenset[str] = frozenset()) -> None:
        spec: dict[str, object] = {
            "recovery": {"policy": "Manual" if "manual" in kind else "Automatic", "maxResumes": MAX_RESUMES}
        }
        if "coded" in kind:
            spec["code"] = {"configMap": {"name": "trip-code"}}
        if "given" in kind:
            spec["workflowId"] = "nightly"
        self.clients = Clients(build.spec(build.SELECTING if "selecting" in kind else build.SPEC, **spec))
        copied = names.cluster_labels(build.NAME, build.UID, 1)  # somebody's copy of one of ours, labels and all
        self.clients.clusters = {name: selected(name) for name in ("one", "two")}
        self.clients.clusters["copy"] = FakeCluster("copy", "uid-copy", copied, "")
        if "stranger" in kind:
            self.clients.clusters[STRANGER] = FakeCluster(STRANGER, "uid-stranger", {}, "")
        self.strangers = {cluster.uid for cluster in self.clients.clusters.values()}
        self.posted: dict[int, tuple[str, HeadIdentity]] = {}
        self.late: list[acts.Action] = []

    def round(self, stop: int | None = None, lost: bool = False) -> float | None:
        """One round; a crash before the action at `stop`, whose effect comes late where its reply was `lost`.

        Returns:
            Seconds until the next round, as `decide` wants it.
        """
        return self.carry_out(self.clients.observe(), stop, lost)

    def carry_out(self, seen: Observation, stop: int | None = None, lost: bool = False) -> float | None:
        """Decide on what was seen, maybe long ago, and act on it."""
        decision = decide(seen, self.clients.now)
        self._check(seen, decision)
        if not self.clients.patch(seen, decision.state):
            return 0.0
        for place, action in enumerate(decision.actions):
            if place == stop:
                self.late.extend([action] if lost else [])
                break
            if not self.act(action):
                break
        return decision.requeue_after

    def act(self, action: acts.Action) -> bool:
        """Carry one action out."""
        if isinstance(action, acts.DeleteCluster):
            assert action.uid not in self.strangers, "what others made is never deleted"
        done = self.clients.apply(action)
        if isinstance(action, acts.SubmitRun) and done:
            target = (action.submission_id, action.head.identity)
            assert self.posted.setdefault(action.run.attempt, target) == target, "one submission, one head an attempt"
        return done

    def go_on(self, rounds: int, drive: bool = True) -> None:
        """Heads come up, drivers go on, the operator has its rounds."""
        for _ in range(rounds):
            self.heads_come_up()
            if self.clients.exists:
                self.round()
            for cluster, job in self.jobs() if drive else ():
                self.clients.drive(cluster, job)

    def finish(self) -> None:
        """Heal everything: the Workflow must come to an end by itself, and nothing of it may be left."""
        clients = self.clients
        clients.store_up = clients.network_up = clients.code_there = True
        for name in ("one", "two"):
            clients.clusters.setdefault(name, selected(name))
        for action in self.late:
            self.act(action)
        for context in range(250):
            if not clients.exists or self._step_to_the_end(context):
                break
        else:
            raise AssertionError(f"still {clients.state.phase}: {clients.state}")
        assert [cluster.name for cluster in clients.clusters.values() if cluster.owner_uid == build.UID] == []
        assert {"one", "two", "copy"} <= set(clients.clusters)

    def _step_to_the_end(self, context: int) -> bool:
        clients = self.clients
        for cluster in clients.clusters.values():
            cluster.suspended = False
        clients.annotations[names.RESUME_ANNOTATION] = f"go-{context}"
        run = self.newest()
        if run is not None and run.owner.uid == OTHER:
            run.alive = False
        self.heads_come_up()
        requeue = self.round()
        for cluster, job in self.jobs():
            clients.drive(cluster, job)
        clients.now += requeue or 0.1
        return clients.state.phase in TERMINAL and requeue is None and clients.deleted is None

    def heads_come_up(self) -> None:
        """All but those of strangers."""
        for cluster in self.clients.clusters.values():
            if not self.strange(cluster) and not cluster.suspended:
                self.clients.raise_head(cluster)

    def strange(self, cluster: FakeCluster) -> bool:
        """A cluster that is not for us: neither ours nor one that a selector may choose."""
        return cluster.uid in ("uid-stranger", "uid-copy")

    def jobs(self) -> list[tuple[FakeCluster, Job]]:
        """The submissions that live."""
        return [(c, job) for c in self.clients.clusters.values() for job in c.jobs.values() if job.state in LIVE_JOBS]

    def newest(self) -> Run | None:
        """The run under the highest name."""
        return self.clients.log[max(self.clients.log)] if self.clients.log else None

    def _check(self, seen: Observation, decision: acts.Decision) -> None:
        before, after = seen.workflow.state, decision.state
        assert after.phase is not None
        old = before.phase or Phase.PENDING
        arrows = {target for (phase, _), target in TRANSITIONS.items() if phase is old}
        assert after.phase is old or after.phase in arrows
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
        assert after.attempt > 0, "who submitted nothing owns nothing"


def _check_end(seen: Observation, after: WorkflowState) -> None:
    """What the log says of a run that is this object's, holds; and without such a run a phase never says Succeeded."""
    view = seen.run.view if isinstance(seen.run, RunRead) else None
    mine = view is not None and not view.tombstone and view.owner is not None and view.owner.uid == build.UID
    if view is not None and mine and view.status.is_terminal:
        assert after.phase is PHASE_OF[view.status]
    if view is not None and mine and not view.status.is_terminal:
        assert after.phase not in TERMINAL
    if after.phase is Phase.SUCCEEDED:
        assert view is not None
        assert view.status is WorkflowStatus.SUCCESSFUL
