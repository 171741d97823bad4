"""Ray heads of the simulation: the Jobs API, drivers, and the manager of runs.

A head is a process of the virtual loop, so that it can be killed, frozen and continued with everything that runs on it.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tests.support.operator_simulation.store import Run
from tests.support.simulation.loop import Process
from workflow.submission import ExitCode, Submission
from workflow_operator.adapters import ray_jobs
from workflow_operator.adapters.ray_jobs import HeadEndpoint, Job, RayJobs
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.errors import AnsweredError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from tests.support.operator_simulation.world import World

T = TypeVar("T")
LIVE = ("PENDING", "RUNNING")
REQUEST_SECONDS = 10.0


@dataclass(eq=False)
class HeadJob:
    """A submission on a head."""

    submission: Submission
    metadata: Mapping[str, str]
    status: str = "PENDING"
    exit_code: int | None = None
    message: str = ""

    def exit(self, code: int, message: str = "") -> None:
        """End the driver, unless it has ended."""
        if self.status in LIVE:
            self.status = "SUCCEEDED" if code == 0 else "FAILED"
            self.exit_code, self.message = code, message


@dataclass(eq=False)
class Head:
    """The Ray container of a head pod.

    Attributes:
        dashboard: how the Jobs API replies. `up`, `hung`, `slow`, `broken` and `unauthorized` are the modes of a
            correct API. `forgets` knows no job, `stale` reports ended jobs as RUNNING, and `failed` reports
            running jobs as failed.
        driven: the runs that the manager of this head drives, with the epoch of its claim.
    """

    world: World
    cluster: str
    pod: str
    ip: str
    process: Process
    dashboard: str = "up"
    jobs: dict[str, HeadJob] = field(default_factory=dict)
    driven: dict[Run, int] = field(default_factory=dict)

    @property
    def manager(self) -> str:
        """The id of the manager."""
        return f"manager-{self.pod}"

    @property
    def works(self) -> bool:
        """Whether the processes of the head are running."""
        return self.process.alive and not self.process.stopped

    def owns(self, run: Run) -> bool:
        """Return whether the manager of this head owns the run and can commit."""
        mine = run.owner.manager == self.manager and self.driven.get(run) == run.epoch
        return self.works and mine and run.status is WorkflowStatus.RUNNING and self.world.store.contains(run)

    def start(self) -> None:
        """Start the heartbeats of the manager."""
        self.world.loop.spawn(self.process, self._send_heartbeats())

    def submit(self, submission_id: str, job: HeadJob) -> None:
        """Start a driver."""
        self.jobs[submission_id] = job
        self.world.loop.spawn(self.process, self._drive(job))

    async def _send_heartbeats(self) -> None:
        while True:
            if self.world.store.writable:
                self.world.store.heartbeats[self.manager] = self.world.now()
            await asyncio.sleep(5.0)

    async def _drive(self, job: HeadJob) -> None:
        world, submission = self.world, job.submission
        await asyncio.sleep(world.chance.uniform(0.5, 6.0))
        if job.status != "PENDING":
            return
        job.status = "RUNNING"
        if not await self._store_replies(submission.manager_unresponsive_seconds):
            job.exit(ExitCode.MANAGER_UNRESPONSIVE)
            return
        run, code = world.enter(submission, self.manager)
        if run is None or code is not None:
            job.exit(code or 0)
            return
        if self.driven.get(run) != run.epoch and run.status is WorkflowStatus.RUNNING:
            self.driven[run] = run.epoch
            world.loop.spawn(self.process, self._manage(run, run.epoch))
        while job.status in LIVE:
            await asyncio.sleep(2.0)
            if not await self._store_replies(submission.manager_unresponsive_seconds):
                job.exit(ExitCode.MANAGER_UNRESPONSIVE)
            elif not world.store.contains(run):
                job.exit(ExitCode.CRASHED, "the run is missing in the store")
            elif run.status.is_terminal:
                job.exit(ExitCode.FINISHED)
            elif run.owner.manager != self.manager:
                job.exit(ExitCode.SUPERSEDED)

    async def _store_replies(self, seconds: float) -> bool:
        """Wait until the store accepts a write, but not longer than a number of seconds."""
        waited = 0.0
        while not self.world.store.writable and waited < seconds:
            await asyncio.sleep(2.0)
            waited += 2.0
        return self.world.store.writable

    async def _manage(self, run: Run, epoch: int) -> None:
        """Commit the steps of a run one after the other, until the manager does not own it any more."""
        world = self.world
        while True:
            await asyncio.sleep(world.step_seconds())
            if not world.store.writable:
                continue
            if run.epoch != epoch or run.status is not WorkflowStatus.RUNNING or not world.store.contains(run):
                return
            if run.cancel_requested:
                world.log(f"manager cancels run {run.number} of {run.workflow_id}")
                run.end(WorkflowStatus.CANCELED, "Canceled", world.now())
            elif len(run.commits) < run.steps:
                run.commits.append(epoch)
                run.epochs_without_progress = 0
                world.count("commits")
            else:
                run.end(WorkflowStatus.SUCCESSFUL, "", world.now())
                world.log(f"run {run.number} of {run.workflow_id} is SUCCESSFUL")


class SimulatedRayJobs(RayJobs):
    """The Jobs API of all heads, for the real adapter `Submissions`.

    Args:
        world: the simulation.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def job(self, head: HeadEndpoint, submission_id: str) -> Job | None:
        return await self._ask(head, "read job", lambda found: self._job(found, submission_id))

    async def ensure_package(self, head: HeadEndpoint, name: str, data: bytes) -> bool:
        return bool(await self._ask(head, "upload", lambda found: False))

    async def submit(self, head: HeadEndpoint, submission: ray_jobs.Submission) -> Job:
        known = await self.job(head, submission.submission_id)
        if known is None:
            await self._ask(head, "submit job", lambda found: self._submit(found, submission))
            known = await self.job(head, submission.submission_id)
            if known is None:
                raise UnreachableError(f"the head accepted job {submission.submission_id} but does not list it")
        if dict(known.metadata) != dict(submission.metadata):
            raise RefusedError(f"the submission id {submission.submission_id} belongs to another job")
        return known

    async def stop(self, head: HeadEndpoint, submission_id: str) -> None:
        def stop(found: Head) -> None:
            job = found.jobs.get(submission_id)
            if job is not None and job.status in LIVE:
                job.status = "STOPPED"

        await self._ask(head, "stop job", stop)

    async def log_tail(self, head: HeadEndpoint, submission_id: str) -> bytes:
        job = await self.job(head, submission_id)
        if job is None:
            raise RefusedError(f"the head at {head.address} does not know the submission {submission_id}")
        return job.message.encode()

    def _job(self, head: Head, submission_id: str) -> Job | None:
        job = head.jobs.get(submission_id)
        if job is None or head.dashboard == "forgets":
            return None
        status, code = job.status, job.exit_code
        if head.dashboard == "stale" and status not in LIVE:
            status, code = "RUNNING", None
        if head.dashboard == "failed" and status == "RUNNING":
            status, code = "FAILED", 1
        return Job(submission_id, status, job.metadata, job.message, "", code)

    def _submit(self, head: Head, submission: ray_jobs.Submission) -> None:
        if submission.submission_id in head.jobs:
            return  # the head replies that the id is in use
        parsed = Submission.parse(shlex.split(submission.entrypoint)[-1])
        self._world.checks.submitted(parsed, submission.submission_id, head)
        head.submit(submission.submission_id, HeadJob(parsed, submission.metadata))

    async def _ask(self, endpoint: HeadEndpoint, what: str, effect: Callable[[Head], T]) -> T:
        world = self._world
        head = world.head_at(endpoint.address)
        silent = head is None or not head.works or head.dashboard == "hung" or world.network.heads_unreachable
        if head is None or silent:
            await asyncio.sleep(REQUEST_SECONDS)
            raise UnreachableError(f"the head at {endpoint.address} does not answer: TimeoutError")
        if head.dashboard == "unauthorized":
            raise RefusedError(f"the head at {endpoint.address} refuses the token (HTTP 401)")
        if head.dashboard == "broken":
            raise AnsweredError(f"the head at {endpoint.address} replied with HTTP 500")
        if head.dashboard == "slow":
            await asyncio.sleep(REQUEST_SECONDS - 1.0)
        return await world.network.request("head", what, lambda: effect(head))
