"""The store of the simulation: the runs under each workflow id, and the heartbeats of their managers.

The rules for claims are those of `workflow.log.claim` and `workflow.requests`. `SimulatedRuns` is the port of the
operator to it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tests.unit.operator import build
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.submission import ExitCode, Submission
from workflow_operator.core import actions as acts
from workflow_operator.core.log_view import Owner, RunView, StepCounts, WorkflowStatus
from workflow_operator.core.observation import Loss, RunRead, RunReadFailure, StoreFailure
from workflow_operator.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from tests.support.operator_simulation.world import World

T = TypeVar("T")
READ_SECONDS = 5.0
ACT_SECONDS = 10.0
"""For this time, a round waits for a change of the store."""
RETRY_SECONDS = 30.0
"""For this time, a change is retried. It may take effect after its round has given up."""

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
        staged: the copies of code and arguments, as (run uuid, digest).
        driver_logs: the copies of logs, by their address.
        waiting: why steps have no worker, or empty.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.mode = "up"
        self.runs: dict[str, dict[int, Run]] = {}
        self.heartbeats: dict[str, float] = {}
        self.staged: set[tuple[str, str]] = set()
        self.driver_logs: dict[str, bytes] = {}
        self.waiting = ""

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
        self.runs, self.heartbeats, self.staged, self.driver_logs = {}, {}, set(), {}

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
        if run is None and submission.run_exists:
            return None, ExitCode.CHECKPOINTS_UNREADABLE
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

    def refuse(self, ref: acts.RunRef, reason: str) -> None:
        """Prevent a run that does not exist, as `requests.refuse_run` does."""
        if ref.run_number > max(self.runs.get(ref.workflow_id, {}), default=0):
            self.change(ref, WorkflowStatus.FAILED, reason)

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
        self._opened: set[acts.StoreRef] = set()

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
        self._opened.add(store)
        return await self._world.network.request("store", "read", lambda: self._read(workflow_id, staged, code))

    def _read(self, workflow_id: str, staged: acts.RunRef | None, code: str) -> RunRead:
        store = self._world.store
        run = store.newest(workflow_id)
        is_staged = staged is not None and (staged.run_uuid, code) in store.staged
        if run is None:
            return RunRead(code_staged=is_staged)
        lost = run.status is WorkflowStatus.RUNNING and store.owner_lost(run)
        return RunRead(run.view(), WorkflowStatus.RESUMABLE if lost else run.status, is_staged, store.waiting)

    async def loss(self, namespace: str, run: acts.RunRef) -> RunReadFailure | None:
        try:
            return await self._change(namespace, run, "read remains", lambda: self._loss(run))
        except UnreachableError as error:
            return RunReadFailure(StoreFailure.UNAVAILABLE, str(error))
        except RefusedError as error:
            return RunReadFailure(StoreFailure.REFUSED, str(error))

    def _loss(self, run: acts.RunRef) -> RunReadFailure | None:
        if run.run_number in self._world.store.runs.get(run.workflow_id, {}):
            return None
        return RunReadFailure(StoreFailure.LOST, "the store contains neither entry nor log of the run", Loss.RUN)

    async def stage_code(self, namespace: str, action: acts.StageCode) -> None:
        run, store = action.run, self._world.store
        await self._change(namespace, run, "stage code", lambda: store.staged.add((run.run_uuid, action.sha256)))

    async def stage_args(self, namespace: str, action: acts.StageArgs) -> None:
        copy = (action.run.run_uuid, hashlib.sha256(action.data).hexdigest())
        await self._change(namespace, action.run, "stage arguments", lambda: self._world.store.staged.add(copy))

    async def request_cancel(self, namespace: str, action: acts.RequestCancel) -> None:
        def request() -> None:
            run = self._world.store.runs.get(action.run.workflow_id, {}).get(action.run.run_number)
            if run is not None and not run.status.is_terminal:
                run.cancel_requested = True

        await self._change(namespace, action.run, "request cancel", request)

    async def end(self, namespace: str, action: acts.EndRun) -> None:
        status = WorkflowStatus(action.status)
        run, world = action.run, self._world
        if action.only_absent:
            await self._change(namespace, run, "refuse run", lambda: world.store.refuse(run, action.reason))
        else:
            await self._change(namespace, run, "end run", lambda: world.store.change(run, status, action.reason))

    async def release(self, namespace: str, action: acts.ReleaseRun) -> None:
        run, world, status = action.run, self._world, WorkflowStatus.RESUMABLE
        await self._change(namespace, run, "release run", lambda: world.store.change(run, status, action.reason))

    async def delete(self, namespace: str, action: acts.DeleteCheckpoints) -> None:
        await self._change(namespace, action.run, "delete run", lambda: self._world.store.delete(action.run))

    async def store_driver_log(self, namespace: str, run: acts.RunRef, submission_id: str, log: bytes) -> str:
        address = f"{run.store.url}/{run.run_uuid}/{submission_id}.log"
        await self._change(namespace, run, "store log", lambda: self._world.store.driver_logs.setdefault(address, log))
        return address

    async def _change(self, namespace: str, run: acts.RunRef, what: str, effect: Callable[[], T]) -> T:
        """Change the store. It is opened with the Secret, and stays open if the Secret disappears."""
        world, secret = self._world, run.store.secret
        if secret and world.api.get("secrets", namespace, secret) is None and run.store not in self._opened:
            raise RefusedError(f"{what}: the Secret {secret} does not exist; create it")
        if world.store.mode == "down":
            world.later(world.chance.uniform(0.0, RETRY_SECONDS), self._retry, effect)
            await asyncio.sleep(ACT_SECONDS)
            raise UnreachableError(f"{what}: the store has not answered for {ACT_SECONDS:.0f} s")
        if not world.store.writable:
            raise RefusedError(f"{what}: the store refuses writes")
        self._opened.add(run.store)
        world.log(f"store: {what}")
        return await world.network.request("store", what, effect)

    def _retry(self, effect: Callable[[], object]) -> None:
        if self._world.store.writable:
            effect()
