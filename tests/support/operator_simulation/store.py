"""The store of the simulation: the runs under each workflow id, and the heartbeats of their managers.

The rules for claims are those of `workflow.log.claim` and `workflow.requests`. `SimulatedRuns` is the port of the
operator to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.unit.operator import build
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.submission import ExitCode, Submission
from workflow_operator.core import actions as acts
from workflow_operator.core.log_view import Owner, RunView, StepCounts, WorkflowStatus
from workflow_operator.core.observation import RunRead, RunReadFailure, StoreFailure
from workflow_operator.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from tests.support.operator_simulation.world import World

READ_SECONDS = 5.0
RETRY_SECONDS = 30.0
"""After this time, a change of an unavailable store fails."""

FREES_ID = ("Deleted", "Abandoned")


@dataclass(eq=False)
class Run:
    """A run in the log, or a tombstone.

    Attributes:
        commits: the epochs of the committed steps, in order.
        cancel_requested: whether the manager was requested to cancel.
    """

    workflow_id: str
    number: int
    run_uuid: str
    owner: Owner
    created: float
    epoch: int = 1
    status: WorkflowStatus = WorkflowStatus.RUNNING
    reason: str = ""
    commits: list[int] = field(default_factory=list)
    steps: int = 0
    epochs_without_progress: int = 0
    max_resumes: int = -1
    tombstone: bool = False
    ended: float | None = None
    cancel_requested: bool = False
    code: str = ""

    def claim(self, owner: Owner) -> None:
        """Start the next epoch."""
        self.epochs_without_progress += self.status is WorkflowStatus.RUNNING
        self.epoch, self.owner, self.status = self.epoch + 1, owner, WorkflowStatus.RUNNING
        self.cancel_requested = False

    def end(self, status: WorkflowStatus, reason: str, now: float) -> None:
        """Write a terminal state."""
        self.status, self.reason, self.ended = status, reason, now

    def view(self) -> RunView:
        """Return the run as a reader sees it."""
        return build.view(
            self.status,
            workflow_id=self.workflow_id,
            run_number=self.number,
            run_uuid=self.run_uuid,
            epoch=0 if self.tombstone else self.epoch,
            owner=self.owner,
            created=self.created,
            ended=self.ended,
            reason=self.reason,
            counts=StepCounts(self.steps, len(self.commits), 0, 0),
            epochs_without_progress=self.epochs_without_progress,
            tombstone=self.tombstone,
            code=self.code,
        )


class Store:
    """The stored runs.

    Args:
        world: the clock.

    Attributes:
        mode: `up`, `down` (no reply), `slow`, `read-only` or `refused` (all requests are rejected).
        runs: workflow id -> run number -> run.
        staged: the copies of code, as (run uuid, digest).
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.mode = "up"
        self.runs: dict[str, dict[int, Run]] = {}
        self.heartbeats: dict[str, float] = {}
        self.staged: set[tuple[str, str]] = set()

    @property
    def writable(self) -> bool:
        """Whether a write succeeds now."""
        return self.mode in ("up", "slow")

    def newest(self, workflow_id: str) -> Run | None:
        """Return the run with the highest number, or None."""
        runs = self.runs.get(workflow_id)
        return runs[max(runs)] if runs else None

    def contains(self, run: Run) -> bool:
        """Return whether the run is still stored."""
        return self.runs.get(run.workflow_id, {}).get(run.number) is run

    def owner_lost(self, run: Run) -> bool:
        """Return whether the heartbeat of the owner has expired."""
        last = self.heartbeats.get(run.owner.manager)
        return last is None or self._world.now() - last > HEARTBEAT_TIMEOUT

    def empty(self) -> None:
        """Lose all data."""
        self.runs, self.heartbeats, self.staged = {}, {}, set()

    def enter(self, submission: Submission, manager: str, steps: int) -> tuple[Run | None, ExitCode | None]:
        """Create, attach to or claim the run of a submission.

        Returns:
            The run that the manager drives from now on, or the exit code of the driver.
        """
        runs = self.runs.setdefault(submission.workflow_id, {})
        run = runs.get(submission.run_number)
        me = Owner(manager, "process", manager, submission.uid, submission.attempt)
        if runs and max(runs) > submission.run_number:
            return None, ExitCode.SUPERSEDED
        if run is None:
            run = Run(submission.workflow_id, submission.run_number, submission.run_uuid, me, self._world.now())
            run.steps, run.max_resumes, run.code = steps, submission.max_resumes, submission.code
            runs[run.number] = run
            return run, None
        if run.tombstone:
            return None, ExitCode.SUPERSEDED
        if run.status.is_terminal:
            return run, ExitCode.FINISHED
        if run.owner.manager == manager and run.status is WorkflowStatus.RUNNING:
            return run, None
        if run.owner.uid == submission.uid and run.owner.attempt >= submission.attempt:
            return None, ExitCode.SUPERSEDED
        released = run.status is WorkflowStatus.RESUMABLE
        if run.owner.uid != submission.uid and not released and not self.owner_lost(run):
            return None, ExitCode.IN_USE
        run.claim(me)
        if 0 <= run.max_resumes < run.epochs_without_progress:
            run.end(WorkflowStatus.FAILED, "ResumesExhausted", self._world.now())
        return run, None

    def change(self, ref: acts.RunRef, status: WorkflowStatus, reason: str) -> None:
        """End or release a run, as `requests.end_run` and `requests.release_run` do."""
        runs = self.runs.setdefault(ref.workflow_id, {})
        run = runs.get(ref.run_number)
        if run is None:
            if status is not WorkflowStatus.RESUMABLE and ref.run_number > max(runs, default=0):
                self._write_tombstone(ref, ref.run_number, status, reason)
            return
        released = run.status is WorkflowStatus.RESUMABLE
        if run.tombstone or run.status.is_terminal or ref.run_number < max(runs):
            return
        if released and status is WorkflowStatus.RESUMABLE and run.owner.uid == ref.uid:
            return
        if run.owner.uid != ref.uid and not released:
            return
        if run.owner.uid == ref.uid and run.owner.attempt > ref.attempt:
            return
        run.claim(Owner(f"outside-{ref.name}", "", ref.name, ref.uid, ref.attempt))
        run.end(status, reason, self._world.now())

    def delete(self, ref: acts.RunRef) -> None:
        """Delete a run, as `requests.delete_run` does."""
        runs = self.runs.get(ref.workflow_id, {})
        run = runs.get(ref.run_number)
        if run is None or ref.run_number < max(runs) or (run.tombstone and run.reason in FREES_ID):
            return
        if run.owner.uid not in ("", ref.uid):
            return
        if not run.status.is_terminal:
            self.change(ref, WorkflowStatus.CANCELED, "Deleted")
        self._write_tombstone(ref, ref.run_number + 1, WorkflowStatus.CANCELED, "Deleted")

    def _write_tombstone(self, ref: acts.RunRef, number: int, status: WorkflowStatus, reason: str) -> None:
        now, owner = self._world.now(), Owner("", uid=ref.uid)
        run = Run(ref.workflow_id, number, "", owner, now, 0, status, reason, tombstone=True, ended=now)
        self.runs[ref.workflow_id][number] = run


class SimulatedRuns:
    """Implements `core.ports.Runs`.

    Args:
        world: the simulation.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def read(
        self, namespace: str, store: acts.StoreRef, workflow_id: str, staged: acts.RunRef | None, code: str
    ) -> RunRead | RunReadFailure:
        mode = self._world.store.mode
        if mode == "down" or (mode == "slow" and self._world.chance.random() < 0.3):
            await asyncio.sleep(READ_SECONDS)
            return RunReadFailure(StoreFailure.UNAVAILABLE, "the store has not answered for 5 s")
        if store.secret and self._world.api.get("secrets", namespace, store.secret) is None:
            return RunReadFailure(StoreFailure.REFUSED, f"the Secret {store.secret} does not exist; create it")
        if mode == "refused":
            return RunReadFailure(StoreFailure.REFUSED, "the store refuses the access key: correct the Secret")
        return await self._world.network.request("store", "read", lambda: self._read(workflow_id, staged, code))

    def _read(self, workflow_id: str, staged: acts.RunRef | None, code: str) -> RunRead:
        store = self._world.store
        run = store.newest(workflow_id)
        is_staged = staged is not None and (staged.run_uuid, code) in store.staged
        if run is None:
            return RunRead(code_staged=is_staged)
        lost = run.status is WorkflowStatus.RUNNING and store.owner_lost(run)
        return RunRead(run.view(), WorkflowStatus.RESUMABLE if lost else run.status, is_staged)

    async def stage_code(self, namespace: str, action: acts.StageCode) -> None:
        run, store = action.run, self._world.store
        await self._change(namespace, run, "stage code", lambda: store.staged.add((run.run_uuid, action.sha256)))

    async def request_cancel(self, namespace: str, action: acts.RequestCancel) -> None:
        def request() -> None:
            run = self._world.store.runs.get(action.run.workflow_id, {}).get(action.run.run_number)
            if run is not None and not run.status.is_terminal:
                run.cancel_requested = True

        await self._change(namespace, action.run, "request cancel", request)

    async def end(self, namespace: str, action: acts.EndRun) -> None:
        status = WorkflowStatus(action.status)
        run, world = action.run, self._world
        await self._change(namespace, run, "end run", lambda: world.store.change(run, status, action.reason))

    async def release(self, namespace: str, action: acts.ReleaseRun) -> None:
        run, world, status = action.run, self._world, WorkflowStatus.RESUMABLE
        await self._change(namespace, run, "release run", lambda: world.store.change(run, status, action.reason))

    async def delete(self, namespace: str, action: acts.DeleteCheckpoints) -> None:
        await self._change(namespace, action.run, "delete run", lambda: self._world.store.delete(action.run))

    async def _change(self, namespace: str, run: acts.RunRef, what: str, effect: Callable[[], object]) -> None:
        world, secret = self._world, run.store.secret
        if secret and world.api.get("secrets", namespace, secret) is None:
            raise RefusedError(f"{what}: the Secret {secret} does not exist; create it")
        if world.store.mode == "down":
            await asyncio.sleep(RETRY_SECONDS)
            raise UnreachableError(f"{what}: the store has not answered for {RETRY_SECONDS:.0f} s")
        if not world.store.writable:
            raise RefusedError(f"{what}: the store refuses writes")
        world.log(f"store: {what}")
        await world.network.request("store", what, effect)
