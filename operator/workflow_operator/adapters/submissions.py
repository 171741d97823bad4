"""Submissions of Workflows: the port `core.ports.Jobs`, on the Jobs API of `ray_jobs`.

What it needs from other systems (tokens, packages, who the head is now) is handed in as functions, so that the adapters
do not know each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow_operator.adapters.ray_jobs import Head, Job, RayJobs, Submission
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import HeadRef, RunRef, SubmitRun
from workflow_operator.core.observation import HeadUnreachable, JobState, SubmissionView
from workflow_operator.errors import RefusedError, UnreachableError

Named = tuple[str, bytes]
"""A package: its name on the head, and the zip."""


@dataclass(frozen=True)
class Sources:
    """Where a submission's parts come from.

    Attributes:
        token: (namespace, Secret) -> a cluster's token.
        library: the library's package.
        code: (namespace, run, sha256) -> the package of the user's code.
        identity: (namespace, cluster) -> the head that runs there now, or None.
    """

    token: Callable[[str, str], Awaitable[str]]
    library: Callable[[], Awaitable[Named]]
    code: Callable[[str, RunRef, str], Awaitable[Named]]
    identity: Callable[[str, str], Awaitable[HeadIdentity | None]]


class Submissions:
    """The port on real heads.

    Args:
        jobs: the Jobs API.
        sources: where tokens and packages come from.
        address: template of a head's address; knows `{ip}`, `{cluster}` and `{namespace}`.
    """

    def __init__(self, jobs: RayJobs, sources: Sources, address: str) -> None:
        self._jobs = jobs
        self._sources = sources
        self._address = address

    async def state(self, namespace: str, head: HeadRef, submission_id: str) -> SubmissionView | HeadUnreachable:
        """What the head says of this submission; a head that refuses us counts as one that does not answer."""
        try:
            job = await self._jobs.job(await self._head(namespace, head), submission_id)
        except (UnreachableError, RefusedError) as error:
            return HeadUnreachable(str(error))
        return SubmissionView(JobState.UNKNOWN) if job is None else _view(job)

    async def submit(self, namespace: str, submission: SubmitRun) -> None:
        """Upload what is missing and post it, unless its id is known there and ours.

        Raises:
            Unreachable: the head is another or does not answer.
            Refused: the id belongs to a job that is not ours, or a package was refused.
        """
        head = await self._head(namespace, submission.head)
        library = await self._sources.library()
        await self._jobs.ensure_package(head, *library)
        runtime_env = {**submission.runtime_env, "py_modules": [f"gcs://{library[0]}"]}
        if submission.code:
            code = await self._sources.code(namespace, submission.run, submission.code)
            await self._jobs.ensure_package(head, *code)
            runtime_env["working_dir"] = f"gcs://{code[0]}"
        now = await self._sources.identity(namespace, submission.head.cluster)
        if now != submission.head.identity:
            raise UnreachableError(
                f"the head of cluster {submission.head.cluster} is not the one that was meant any more"
            )
        await self._jobs.submit(
            head, Submission(submission.submission_id, submission.entrypoint, runtime_env, submission.metadata)
        )

    async def stop(self, namespace: str, head: HeadRef, submission_id: str) -> None:
        """Stop it; an unknown or ended one is a success."""
        await self._jobs.stop(await self._head(namespace, head), submission_id)

    async def _head(self, namespace: str, head: HeadRef) -> Head:
        token = await self._sources.token(namespace, head.token_secret) if head.token_secret else ""
        ip = f"[{head.ip}]" if ":" in head.ip else head.ip
        return Head(self._address.format(ip=ip, cluster=head.cluster, namespace=namespace), token)


def _view(job: Job) -> SubmissionView:
    known = {state.value for state in JobState}
    state = JobState(job.status) if job.status in known else JobState.PENDING
    return SubmissionView(state, job.exit_code, job.message)
