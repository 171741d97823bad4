"""The invariants of the operator, checked at each write and at the end of a simulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workflow.submission import Submission
from workflow_operator.adapters.kube import Object
from workflow_operator.api.parse import parse_status
from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.names import UID_LABEL, default_workflow_id
from workflow_operator.core.state import TERMINAL, TRANSITIONS
from workflow_operator.watch_index import Key

if TYPE_CHECKING:
    from tests.support.operator_simulation.heads import Head
    from tests.support.operator_simulation.store import Run
    from tests.support.operator_simulation.world import World

FREED_SECONDS = 60.0
TOLERANCE_SECONDS = 15.0
TICK_SECONDS = 5.0
SHARED_ID = "shared"
"""The workflow id that two Workflows of a simulation use."""

WINDOW_SECONDS, MOST_ATTEMPTS = 120.0, 10
"""With delays of 2, 4, 8, 16 and 30 seconds, eight attempts start within the window."""

PHASE_OF = {
    WorkflowStatus.SUCCESSFUL: Phase.SUCCEEDED,
    WorkflowStatus.FAILED: Phase.FAILED,
    WorkflowStatus.CANCELED: Phase.CANCELED,
}


@dataclass
class Life:
    """What was observed of one Workflow object.

    Attributes:
        state: its last status.
        holding: the seconds for which it kept a cluster after the user asked to cancel or delete it.
        asked: whether the user asked to cancel or delete it.
        may_fail: why FAILED is a correct end, or empty.
        gone: whether the object no longer exists.
        starts: the times of the last attempts without progress.
        fast: whether the user requests attempts without a delay.
        outdated: whether `spec.cluster` changed after its cluster was created. The next attempt then uses another.
    """

    name: str
    uid: str
    workflow_id: str
    state: WorkflowState = field(default_factory=WorkflowState)
    holding: float = 0.0
    asked: bool = False
    may_fail: str = ""
    gone: bool = False
    starts: list[float] = field(default_factory=list)
    fast: bool = False
    outdated: bool = False


class Checks:
    """Observes all writes and collects the broken invariants.

    Args:
        world: the simulation.

    Attributes:
        problems: the broken invariants, each as one sentence.
        abandoned: the workflow ids of runs whose cleanup was given up, because their namespace was deleted.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.problems: list[str] = []
        self.abandoned: set[str] = set()
        self.lives: dict[str, Life] = {}
        self._posted: dict[tuple[str, int], tuple[str, str]] = {}
        world.api.hooks.append(self._changed)

    def problem(self, text: str) -> None:
        """Record a broken invariant."""
        self._world.log(f"PROBLEM: {text}")
        self.problems.append(text)

    def submitted(self, submission: Submission, submission_id: str, head: Head) -> None:
        """Check that each attempt has one submission on one head."""
        key = (submission.uid, submission.attempt)
        self._world.log(f"attempt {submission.attempt} of {submission.uid} is submitted to {head.pod}")
        if self._posted.setdefault(key, (submission_id, head.pod)) != (submission_id, head.pod) or (
            submission_id in head.jobs
        ):
            self.problem(f"attempt {submission.attempt} was submitted twice")

    def forget(self, life: Life) -> None:
        """Forget the status of a Workflow, which its object loses."""
        life.state = WorkflowState()
        self._posted = {key: where for key, where in self._posted.items() if key[0] != life.uid}

    def tick(self) -> None:
        """Check what depends on time. Called every `TICK_SECONDS`."""
        operator = self._world.operator
        able = operator is not None and operator.works and not self._world.network.api_down
        for life in self.lives.values():
            found = self._world.workflow(life.name)
            self._check_freed(life, found, able)
            live = found is not None and life.state.phase not in TERMINAL
            settled = live and able and self._world.loop.time() > operator_grace(self._world)
            key = Key(self._world.namespace, life.name)
            if settled and operator is not None and key not in operator.reconciler._tasks:
                self.problem(f"{life.name} is {life.state.phase}, and the operator has no timer for it")
        self._world.later(TICK_SECONDS, self.tick)

    def finish(self) -> None:
        """Check the state after all faults have ended and the world is quiet."""
        for life in self.lives.values():
            run = self._own_run(life)
            if life.gone:
                self._check_gone(life, run)
                continue
            if life.state.phase not in TERMINAL:
                condition = life.state.condition("Reconciling")
                text = f"{condition.reason}: {condition.message}" if condition else ""
                self.problem(f"stuck: {life.name} is still {life.state.phase}: {text}")
                continue
            if run is not None and not run.tombstone and PHASE_OF.get(run.status) is not life.state.phase:
                self.problem(f"lost: {life.name} is {life.state.phase}, but its run is {run.status}")
            if life.state.phase is Phase.FAILED and not life.may_fail:
                failed = life.state.condition("Failed")
                self.problem(f"given up: {life.name} is Failed: {failed.reason if failed else ''}")
            if life.state.phase is Phase.CANCELED and not life.asked:
                self.problem(f"{life.name} is Canceled, but the user did not ask for it")
        for cluster in self._world.api.list("rayclusters", None, {}):
            if UID_LABEL in (cluster["metadata"].get("labels") or {}):
                self.problem(f"leftover: RayCluster {cluster['metadata']['name']}")
        for config_map in self._world.api.list("configmaps", "rayworkflow", {}):
            self.problem(f"leftover: deferred cleanup {config_map['metadata']['name']}")
        self.problems += self._world.loop.unhandled_errors

    def _check_gone(self, life: Life, run: Run | None) -> None:
        if run is not None and run.status is WorkflowStatus.RUNNING and life.workflow_id not in self.abandoned:
            self.problem(f"lost: {life.name} is gone, but its run is RUNNING")

    def _own_run(self, life: Life) -> Run | None:
        run = self._world.store.newest(life.workflow_id)
        return run if run is not None and run.owner.uid == life.uid else None

    def _check_freed(self, life: Life, found: Object | None, able: bool) -> None:
        asked = found is not None and ((found["spec"].get("cancel")) or "deletionTimestamp" in found["metadata"])
        life.asked = life.asked or bool(asked)
        clusters = [
            each
            for each in self._world.api.list("rayclusters", None, {UID_LABEL: life.uid})
            if "deletionTimestamp" not in each["metadata"]
        ]
        if not asked or not clusters:
            life.holding = 0.0
        elif able:
            before = life.holding
            life.holding += TICK_SECONDS
            if before <= FREED_SECONDS + TOLERANCE_SECONDS < life.holding:
                self.problem(f"{life.name} keeps its cluster {life.holding:.0f} s after cancel or delete")

    def _changed(self, actor: str, plural: str, before: Object | None, after: Object | None) -> None:
        found = after or before
        assert found is not None
        if plural == "workflows":
            self._workflow_changed(actor, before, after)
        elif plural == "rayclusters" and actor.startswith("operator"):
            verb = "creates" if before is None else "deletes"
            self._world.log(f"{actor} {verb} RayCluster {found['metadata']['name']}")
            if before is not None:
                self._check_deletion(before)
            elif uid := (found["metadata"].get("labels") or {}).get(UID_LABEL):
                self.lives[uid].outdated = False
        elif actor.startswith("operator"):
            own = plural == "events" or (plural == "configmaps" and found["metadata"]["namespace"] == "rayworkflow")
            if not own:
                self.problem(f"{actor} changed {plural} {found['metadata']['name']}")

    def _check_deletion(self, cluster: Object) -> None:
        meta = cluster["metadata"]
        uid = (meta.get("labels") or {}).get(UID_LABEL, "")
        owner = next((each["uid"] for each in meta.get("ownerReferences") or () if each.get("controller")), "")
        life = self.lives.get(uid)
        if life is None or owner != uid:
            self.problem(f"the operator deleted RayCluster {meta['name']} of another owner")
            return
        found = self._world.workflow(life.name)
        if found is None or found["spec"].get("cancel") or "deletionTimestamp" in found["metadata"]:
            return
        if (found["spec"].get("recovery") or {}).get("policy") == "Manual":
            return  # the operator deletes the cluster after each failure, so that a user can decide
        if cluster["spec"].get("suspend") or "deletionTimestamp" in meta:
            return  # another client stops its pods
        if life.outdated and life.state.phase is Phase.RESUMABLE:
            return  # a changed template applies to the attempt after a failure
        head = self._world.kuberay.head_of(meta["name"])
        run = self._own_run(life)
        if head is not None and run is not None and head.owns(run):
            failure = life.state.last_failure
            why = f": {failure.reason}: {failure.message[:120]}" if failure else ""
            self.problem(f"healthy RayCluster {meta['name']} deleted{why}")

    def _workflow_changed(self, actor: str, before: Object | None, after: Object | None) -> None:
        found = after or before
        assert found is not None
        meta = found["metadata"]
        life = self.lives.get(meta["uid"])
        if life is None:
            life = self.lives[meta["uid"]] = _life(found)
        life.gone = after is None
        if before is not None and after is not None and before["spec"].get("cluster") != after["spec"].get("cluster"):
            life.outdated = True
        if after is None or before is None or after.get("status") == before.get("status"):
            return
        old, new = life.state, parse_status(after.get("status") or {})
        life.state = new
        if new.phase is None:
            return  # a user restored the object without its status
        self._check_status(life, old, new, "deletionTimestamp" in meta)

    def _check_status(self, life: Life, old: WorkflowState, new: WorkflowState, deleted: bool) -> None:
        phase = old.phase or Phase.PENDING
        if new.phase is not old.phase:
            condition = new.condition("Reconciling") or new.condition("Stalled")
            self._world.log(f"{life.name}: {old.phase} -> {new.phase} ({condition.reason if condition else ''})")
            self._world.count(f"phase {new.phase}")
        if new.phase is not phase and new.phase not in {to for (was, _), to in TRANSITIONS.items() if was is phase}:
            self.problem(f"{life.name} moved from {phase} to {new.phase}")
        for name, less, more in (
            ("attempt", old.attempt, new.attempt),
            ("epoch", old.epoch, new.epoch),
            ("resumes", old.resumes.total, new.resumes.total),
        ):
            if more < less:
                self.problem(f"{life.name}: {name} decreased from {less} to {more}")
        if deleted:
            return
        self._check_attempts(life, old, new)
        if new.phase in TERMINAL and phase not in TERMINAL:
            self._check_end(life, new)
        elif new.phase not in TERMINAL:
            kinds = ("Reconciling", "Stalled")
            shown = [each for each in new.conditions if each.type in kinds and each.status == "True"]
            if not any(each.reason and each.message for each in shown):
                self.problem(f"{life.name} is {new.phase} without a reason")

    def _check_attempts(self, life: Life, old: WorkflowState, new: WorkflowState) -> None:
        """Check that attempts in a row without progress start after increasing delays."""
        if new.steps.succeeded > old.steps.succeeded or life.fast:
            life.starts = []
        if new.attempt > old.attempt > 0:
            if self._world.namespace in self._world.api.terminating:
                self.problem(f"{life.name} starts attempt {new.attempt} in a namespace that is being deleted")
            now = self._world.loop.time()
            life.starts = [*(start for start in life.starts if start > now - WINDOW_SECONDS), now]
            if len(life.starts) == MOST_ATTEMPTS + 1:
                self.problem(f"{life.name} started {len(life.starts)} attempts in {WINDOW_SECONDS:.0f} s")

    def _check_end(self, life: Life, new: WorkflowState) -> None:
        run = self._own_run(life)
        if run is not None and not run.status.is_terminal:
            self.problem(f"{life.name} is {new.phase}, but its run is {run.status} in the log")
        newest = self._world.store.newest(life.workflow_id)
        if new.phase is Phase.SUCCEEDED and (newest is None or newest.status is not WorkflowStatus.SUCCESSFUL):
            self.problem(f"{life.name} is Succeeded, but the log is not SUCCESSFUL")


def _life(found: Object) -> Life:
    meta, given = found["metadata"], found["spec"].get("workflowId")
    own = default_workflow_id(meta["namespace"], meta["name"], meta["uid"])
    life = Life(meta["name"], meta["uid"], given or own)
    life.fast = (found["spec"].get("recovery") or {}).get("backoff", {}).get("initialSeconds") == 0
    if given == SHARED_ID:
        life.may_fail = "another Workflow may take over or end the run under its workflow id"
    return life


def operator_grace(world: World) -> float:
    """Return the time until which a started operator may not have listed its Workflows yet."""
    return world.operator_started + 60.0
