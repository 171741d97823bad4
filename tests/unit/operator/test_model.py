"""The operator's invariants under random events, crashes between any two actions, lost replies and stale replicas.

Each rule is one thing that may happen; `Pilot` asserts the invariants at each decision; at the end the world is
healed and the Workflow must come to its end by itself, with nothing left behind.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.operator import build
from tests.unit.operator.clients import Run
from tests.unit.operator.pilot import OTHER, Pilot
from workflow_operator.api.status import WorkflowState
from workflow_operator.core import names
from workflow_operator.core.log_view import Owner, WorkflowStatus
from workflow_operator.core.observation import Observation

RIVAL = {"leaves": WorkflowStatus.RESUMABLE, "succeeds": WorkflowStatus.SUCCESSFUL, "fails": WorkflowStatus.FAILED}
KINDS = st.frozensets(st.sampled_from(["selecting", "coded", "manual", "given", "stranger"]))


class Life(RuleBasedStateMachine):
    """One Workflow in a hostile world."""

    pilot: Pilot
    stale: Observation | None = None

    @initialize(kind=KINDS, rounds=st.integers(0, 8))
    def begin(self, kind: frozenset[str], rounds: int) -> None:
        self.pilot = Pilot(kind)
        self.clients = self.pilot.clients
        self.pilot.go_on(rounds)

    @rule(stop=st.none() | st.integers(0, 4), lost=st.booleans())
    def round(self, stop: int | None, lost: bool) -> None:
        if self.clients.exists:
            self.pilot.round(stop, lost)

    @rule(rounds=st.integers(1, 6), drive=st.booleans())
    def all_goes_well(self, rounds: int, drive: bool) -> None:
        self.pilot.go_on(rounds, drive)

    @rule()
    def another_replica_looks(self) -> None:
        self.stale = self.clients.observe() if self.clients.exists else None

    @precondition(lambda self: self.stale is not None)
    @rule()
    def it_acts_on_its_old_look(self) -> None:
        assert self.stale is not None
        self.pilot.carry_out(self.stale)
        self.stale = None

    @precondition(lambda self: self.pilot.late)
    @rule()
    def late_effect(self) -> None:
        """An effect of a process that stood still after its PATCH happens only now."""
        self.pilot.act(self.pilot.late.pop(0))

    @rule(seconds=st.sampled_from([1, 5, 61, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.clients.now += seconds

    @rule(kind=st.sampled_from(["head dies", "container restarts", "queue", "deleted"]), pick=st.integers(0, 2))
    def cluster_mishap(self, kind: str, pick: int) -> None:
        ours = self.clients.state.cluster.name if self.clients.state.cluster else ""
        known = [cluster for cluster in self.clients.clusters.values() if not self.pilot.strange(cluster)]
        known.sort(key=lambda cluster: (cluster.name != ours, cluster.name))
        for cluster in known[pick : pick + 1]:
            self.clients.mishap(cluster, kind)

    @rule(code=st.sampled_from([1, 5, 6, 137]))
    def driver_dies(self, code: int) -> None:
        for _, job in self.pilot.jobs():
            self.clients.crash(job, code)

    @rule(part=st.sampled_from(["store_up", "network_up", "code_there"]))
    def something_breaks_or_heals(self, part: str) -> None:
        setattr(self.clients, part, not getattr(self.clients, part))

    @rule(word=st.sampled_from("ab"))
    def user_resumes(self, word: str) -> None:
        self.clients.annotations[names.RESUME_ANNOTATION] = word
        self.clients.version += 1

    @precondition(lambda self: self.clients.state.attempt > 0 or self.clients.now > build.NOW + 100)
    @rule(does=st.sampled_from(["cancels", "deletes", "loses the status"]))
    def user(self, does: str) -> None:
        if does == "cancels":
            self.clients.cancel()
        elif does == "deletes":
            self.clients.delete()
        else:
            self.clients.state, self.pilot.posted = WorkflowState(), {}
            self.clients.version += 1

    @rule(end=st.sampled_from([WorkflowStatus.FAILED, WorkflowStatus.CANCELED]))
    def manager_ends_the_run(self, end: WorkflowStatus) -> None:
        run = self.pilot.newest()
        if run is not None and run.alive and not run.status.is_terminal and run.owner.uid == build.UID:
            run.status, run.reason = end, "StepFailed"

    @precondition(lambda self: self.clients.spec.workflow_id)
    @rule(does=st.sampled_from(["claims", "leaves", "succeeds", "fails"]))
    def rival(self, does: str) -> None:
        """Another object with the same workflow id."""
        run = self.pilot.newest()
        theirs = Owner("theirs", "process", "address", OTHER, 1)
        if run is None or (run.tombstone and run.reason == "Deleted"):
            n = max(self.clients.log, default=0) + 1
            self.clients.log[n] = Run(n, f"theirs-{n}", theirs)
        elif not run.status.is_terminal and run.owner.uid == OTHER:
            run.status = RIVAL.get(does, run.status)
        elif not run.status.is_terminal and (run.status is WorkflowStatus.RESUMABLE or not run.alive):
            run.claim(theirs)

    def teardown(self) -> None:
        if hasattr(self, "pilot"):
            self.pilot.finish()


Life.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = Life.TestCase
