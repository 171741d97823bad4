"""The operator's invariants under random events, crashes between any two actions, lost replies and stale replicas.

Each rule is one event, and `OperatorModel` asserts the invariants after each decision. At the end all faults are
removed. Then the Workflow must become terminal by itself, and none of its clusters may remain.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.operator import build
from tests.unit.operator.clients import Run
from tests.unit.operator.model import OTHER, OperatorModel
from workflow_operator.api.status import WorkflowState
from workflow_operator.core import names
from workflow_operator.core.log_view import Owner, WorkflowStatus
from workflow_operator.core.observation import Observation

STATUS_AFTER = {
    "releases": WorkflowStatus.RESUMABLE,
    "succeeds": WorkflowStatus.SUCCESSFUL,
    "fails": WorkflowStatus.FAILED,
}
KINDS = st.frozensets(st.sampled_from(["selecting", "coded", "manual", "given", "foreign"]))


class WorkflowLife(RuleBasedStateMachine):
    """One Workflow with random faults and user actions."""

    model: OperatorModel
    stale: Observation | None = None

    @initialize(kind=KINDS, rounds=st.integers(0, 8))
    def begin(self, kind: frozenset[str], rounds: int) -> None:
        self.model = OperatorModel(kind)
        self.clients = self.model.clients
        self.model.advance(rounds)

    @rule(stop=st.none() | st.integers(0, 4), lost=st.booleans())
    def round(self, stop: int | None, lost: bool) -> None:
        if self.clients.exists:
            self.model.round(stop, lost)

    @rule(rounds=st.integers(1, 6), drive=st.booleans())
    def rounds_without_faults(self, rounds: int, drive: bool) -> None:
        self.model.advance(rounds, drive)

    @rule()
    def another_replica_observes(self) -> None:
        self.stale = self.clients.observe() if self.clients.exists else None

    @precondition(lambda self: self.stale is not None)
    @rule()
    def another_replica_acts_on_its_observation(self) -> None:
        assert self.stale is not None
        self.model.carry_out(self.stale)
        self.stale = None

    @precondition(lambda self: self.model.late)
    @rule()
    def late_action_is_executed(self) -> None:
        """A process that was suspended after its PATCH continues and executes its action."""
        self.model.act(self.model.late.pop(0))

    @rule(seconds=st.sampled_from([1, 5, 61, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.clients.now += seconds

    @rule(kind=st.sampled_from(["head dies", "container restarts", "queue", "deleted"]), pick=st.integers(0, 2))
    def cluster_fails(self, kind: str, pick: int) -> None:
        ours = self.clients.state.cluster.name if self.clients.state.cluster else ""
        known = [cluster for cluster in self.clients.clusters.values() if not self.model.is_foreign(cluster)]
        known.sort(key=lambda cluster: (cluster.name != ours, cluster.name))
        for cluster in known[pick : pick + 1]:
            self.clients.break_cluster(cluster, kind)

    @rule(code=st.sampled_from([1, 5, 6, 7, 8, 137]))
    def driver_exits(self, code: int) -> None:
        for _, job in self.model.jobs():
            self.clients.fail_driver(job, code)

    @rule(part=st.sampled_from(["store_up", "network_up", "code_exists"]))
    def outage_starts_or_ends(self, part: str) -> None:
        setattr(self.clients, part, not getattr(self.clients, part))

    @rule(token=st.sampled_from("ab"))
    def user_resumes(self, token: str) -> None:
        self.clients.annotations[names.RESUME_ANNOTATION] = token
        self.clients.version += 1

    @precondition(lambda self: self.clients.state.attempt > 0 or self.clients.now > build.NOW + 100)
    @rule(does=st.sampled_from(["cancels", "deletes", "restores without status"]))
    def user_acts(self, does: str) -> None:
        if does == "cancels":
            self.clients.cancel()
        elif does == "deletes":
            self.clients.delete()
        else:
            self.clients.state, self.model.posted = WorkflowState(), {}
            self.clients.version += 1

    @rule(end=st.sampled_from([WorkflowStatus.FAILED, WorkflowStatus.CANCELED]))
    def manager_ends_the_run(self, end: WorkflowStatus) -> None:
        run = self.model.newest()
        if run is not None and run.alive and not run.status.is_terminal and run.owner.uid == build.UID:
            run.status, run.reason = end, "StepFailed"

    @precondition(lambda self: self.clients.spec.workflow_id)
    @rule(does=st.sampled_from(["claims", "releases", "succeeds", "fails"]))
    def other_workflow_acts(self, does: str) -> None:
        """Another Workflow uses the same workflow id."""
        run = self.model.newest()
        other = Owner("other", "process", "address", OTHER, 1)
        if run is None or (run.tombstone and run.reason == "Deleted"):
            run_number = max(self.clients.log, default=0) + 1
            self.clients.log[run_number] = Run(run_number, f"other-{run_number}", other)
        elif not run.status.is_terminal and run.owner.uid == OTHER:
            run.status = STATUS_AFTER.get(does, run.status)
        elif not run.status.is_terminal and (run.status is WorkflowStatus.RESUMABLE or not run.alive):
            run.claim(other)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.finish()


WorkflowLife.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestWorkflowLife = WorkflowLife.TestCase
