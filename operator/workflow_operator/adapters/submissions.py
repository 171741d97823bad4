"""Submissions of Workflows: the port `core.ports.Jobs`, implemented with the Jobs API of `ray_jobs`.

Tokens, packages and the identity of the current head come from functions that are passed in. So the adapters do not
depend on each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow_operator.adapters.ray_jobs import HeadEndpoint, Job, RayJobs, Submission
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import HeadRef, RunRef, SubmitRun
from workflow_operator.core.observation import HeadRefused, HeadUnreachable, JobState, SubmissionView
from workflow_operator.errors import AnsweredError, RefusedError, UnreachableError

EXIT_POLLS, EXIT_POLL_SECONDS = 8, 0.5
"""How often, and how far apart, a head is asked whether a driver has exited, before its log is read."""

PackageUpload = tuple[str, bytes]
"""The name of a package on the head, and the bytes of its zip."""


@dataclass(frozen=True)
class Sources:
    """Functions that return the parts of a submission.

    Attributes:
        token: (namespace, name of the Secret) -> the token of a cluster.
        library: returns the library's package.
        code: (namespace, run, sha256) -> the package of the user's code.
        identity: (namespace, cluster) -> the identity of the current head, or None.
    """

    token: Callable[[str, str], Awaitable[str]]
    library: Callable[[], Awaitable[PackageUpload]]
    code: Callable[[str, RunRef, str], Awaitable[PackageUpload]]
    identity: Callable[[str, str], Awaitable[HeadIdentity | None]]


class Submissions:
    """Implements the port with the heads of Ray clusters.

    Args:
        jobs: the Jobs API.
        sources: returns tokens and packages.
        address: template of a head's address; may contain `{ip}`, `{cluster}` and `{namespace}`.
    """

    def __init__(self, jobs: RayJobs, sources: Sources, address: str) -> None:
        self._jobs = jobs
        self._sources = sources
        self._address = address

    async def state(
        self, namespace: str, head: HeadRef, submission_id: str
    ) -> SubmissionView | HeadUnreachable | HeadRefused:
        """Return the state of a submission, or whether the head did not reply or replied otherwise.

        Raises:
            UnreachableError: the API server did not return the token; this shows nothing about the head.
        """
        try:
            endpoint = await self._head(namespace, head)
        except RefusedError as error:
            return HeadRefused("TokenUnreadable", str(error))
        try:
            job = await self._jobs.job(endpoint, submission_id)
        except RefusedError as error:
            return HeadRefused("HeadRefusesToken", str(error))
        except AnsweredError as error:
            return HeadRefused("HeadError", str(error))
        except UnreachableError as error:
            return HeadUnreachable(str(error))
        return SubmissionView(JobState.UNKNOWN) if job is None else _view(job)

    async def submit(self, namespace: str, submission: SubmitRun) -> None:
        """Upload missing packages and submit the run, unless the head already has this submission.

        Raises:
            UnreachableError: the head was replaced, or does not answer.
            RefusedError: the id belongs to a foreign job, or a package was rejected.
        """
        head = await self._head(namespace, submission.head)
        library = await self._sources.library()
        await self._jobs.ensure_package(head, *library)
        runtime_env = {**submission.runtime_env, "py_modules": [f"gcs://{library[0]}"]}
        if submission.code:
            code = await self._sources.code(namespace, submission.run, submission.code)
            await self._jobs.ensure_package(head, *code)
            runtime_env["working_dir"] = f"gcs://{code[0]}"
        current = await self._sources.identity(namespace, submission.head.cluster)
        if current != submission.head.identity:
            raise UnreachableError(
                f"the head of cluster {submission.head.cluster} was replaced before the run was submitted"
            )
        await self._jobs.submit(
            head, Submission(submission.submission_id, submission.entrypoint, runtime_env, submission.metadata)
        )

    async def stop(self, namespace: str, head: HeadRef, submission_id: str) -> None:
        """Stop a submission. If it is unknown or finished, do nothing."""
        await self._jobs.stop(await self._head(namespace, head), submission_id)

    async def log(self, namespace: str, head: HeadRef, submission_id: str) -> bytes:
        """Return the end of a driver's log. If the driver is about to exit, wait a few seconds for its last lines.

        Raises:
            UnreachableError, RefusedError: the head did not send the log.
        """
        endpoint = await self._head(namespace, head)
        for _ in range(EXIT_POLLS):
            job = await self._jobs.job(endpoint, submission_id)
            if job is None or job.is_finished:
                break
            await asyncio.sleep(EXIT_POLL_SECONDS)
        return await self._jobs.log_tail(endpoint, submission_id)

    async def _head(self, namespace: str, head: HeadRef) -> HeadEndpoint:
        token = await self._sources.token(namespace, head.token_secret) if head.token_secret else ""
        ip = f"[{head.ip}]" if ":" in head.ip else head.ip
        return HeadEndpoint(self._address.format(ip=ip, cluster=head.cluster, namespace=namespace), token)


def _view(job: Job) -> SubmissionView:
    known = {state.value for state in JobState}
    state = JobState(job.status) if job.status in known else JobState.PENDING
    return SubmissionView(state, job.exit_code, job.message)
