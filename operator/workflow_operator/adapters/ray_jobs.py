"""A client of Ray's Jobs HTTP API: all that the operator says to a Ray cluster goes through here, without Ray.

`apply.py` submits and stops with it, `observe.py` asks how a submission stands. Written against Ray 2.47 to 2.60; the
contract in tests/operator runs on a real head and on the fake one that the operator's other tests use. Answers that
matter and that Ray documents nowhere: an unknown id is a 404, a known id given again is a 500 with "already exists", a
wrong token is a 403, a missing one a 401, a package over 100 MiB is a 413.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp

from workflow_operator.errors import RefusedError, UnreachableError

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
TEXT_LIMIT = 2000
"""Characters kept of what Ray says; the message of a failed job holds up to 20,000 of its log."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a head's dashboard answers, and the token it wants.

    Attributes:
        address: `http://host:port`, without a slash at its end.
        token: sent as a bearer token; empty where the cluster runs without.
    """

    address: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Submission:
    """One job to start.

    Attributes:
        submission_id: derived from the object and its attempt, never random.
        entrypoint: the shell line the head runs.
        runtime_env: Ray's runtime environment; may hold credentials.
        metadata: strings; what tells a submission of ours from another's under the same id.
    """

    submission_id: str
    entrypoint: str
    runtime_env: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """A submission as Ray tells it.

    Attributes:
        submission_id: its id.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        metadata: as it was submitted.
        message: the end of what Ray says about it, for a failed one the end of its log.
        error_type: Ray's name of the kind of failure, or empty.
        exit_code: of the entrypoint's process, where it ended by itself.
    """

    submission_id: str
    status: str
    metadata: Mapping[str, str]
    message: str = ""
    error_type: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


class RayJobs:
    """The Jobs API of any number of heads, over one HTTP session.

    Args:
        session: an aiohttp session; the caller closes it.
        timeout: seconds for a whole request; uploads get ten times that.
    """

    def __init__(self, session: aiohttp.ClientSession, *, timeout: float = 10.0) -> None:
        self._session = session
        self._timeout = timeout

    async def version(self, head: Head) -> str:
        """Ray's version on the head; the cheapest question that a live head answers.

        Raises:
            Unreachable: the head does not answer, or not now.
            Refused: the token is wrong.
        """
        answer = await self._call("GET", head, "/api/version")
        return str(answer.json_object().get("ray_version", ""))

    async def job(self, head: Head, submission_id: str) -> Job | None:
        """How a submission stands, or None where this head does not know the id.

        Raises:
            Unreachable, Refused: as for `version`.
        """
        answer = await self._call("GET", head, f"/api/jobs/{submission_id}", accept=(404,))
        return None if answer.status == 404 else _job(answer.json_object())

    async def ensure_package(self, head: Head, name: str, data: bytes) -> bool:
        """Have a package lie on the head, and be kept there for the next ten minutes.

        A GET pins what is there, an upload does not: so it is asked for again after the upload.

        Args:
            head: where.
            name: `_ray_pkg_<hash of the content>.zip`.
            data: the zip.

        Returns:
            True where it had to be uploaded.

        Raises:
            Unreachable, Refused: as for `version`; Refused too where the package is too large for this head.
        """
        path = f"/api/packages/gcs/{name}"
        if (await self._call("GET", head, path, accept=(404,))).status == 200:
            return False
        await self._call("PUT", head, path, data=io.BytesIO(data))
        await self._call("GET", head, path)
        return True

    async def submit(self, head: Head, submission: Submission) -> Job:
        """Start a job, exactly once for its id: one that is there already is found and given back.

        Returns:
            The job as it then stands: the new one, or what a submit before this one (its reply lost) started.

        Raises:
            Refused: the id is taken by a job that is not ours (other metadata), or Ray refuses the request.
            Unreachable: nothing is known; ask again.
        """
        known = await self.job(head, submission.submission_id)
        if known is None:
            body = {
                "submission_id": submission.submission_id,
                "entrypoint": submission.entrypoint,
                "runtime_env": dict(submission.runtime_env),
                "metadata": dict(submission.metadata),
            }
            answer = await self._call("POST", head, "/api/jobs/", json=body, accept=(500,))
            if answer.status == 500 and "already exists" not in answer.text:
                raise UnreachableError(f"the head at {head.address} could not take the job: {last_line(answer.text)}")
            known = await self.job(head, submission.submission_id)
            if known is None:
                raise UnreachableError(f"the head at {head.address} took job {submission.submission_id} and forgot it")
        if dict(known.metadata) != dict(submission.metadata):
            raise RefusedError(
                f"the submission id {submission.submission_id} is taken on this cluster by a job that is not of this "
                f"Workflow; delete that job, or give the Workflow another name"
            )
        return known

    async def stop(self, head: Head, submission_id: str) -> None:
        """End a job's driver; nothing happens where it ended already or is not known.

        Raises:
            Unreachable, Refused: as for `version`.
        """
        await self._call("POST", head, f"/api/jobs/{submission_id}/stop", accept=(404,))

    async def _call(self, method: str, head: Head, path: str, *, accept: tuple[int, ...] = (), **body: Any) -> _Answer:
        headers = {"Authorization": f"Bearer {head.token}"} if head.token else {}
        seconds = self._timeout * (10 if "data" in body else 1)
        try:
            async with self._session.request(
                method,
                head.address + path,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
                **body,
            ) as response:
                answer = _Answer(response.status, await response.text(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(
                f"the head at {head.address} does not answer: {type(error).__name__}: {error}"
            ) from error
        if answer.status == 200 or answer.status in accept:
            return answer
        raise _refusal(method, head, path, answer)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str

    def json_object(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text)
        except ValueError as error:
            raise UnreachableError(f"the head answered what is no JSON: {self.text[:200]!r}") from error
        if not isinstance(value, dict):
            raise UnreachableError(f"the head answered no JSON object: {self.text[:200]!r}")
        return cast("dict[str, Any]", value)


def _refusal(method: str, head: Head, path: str, answer: _Answer) -> Exception:
    if answer.status in (401, 403):
        return RefusedError(
            f"the head at {head.address} refuses the token (HTTP {answer.status}); the Secret named as the cluster "
            f"must hold the token it was started with"
        )
    if answer.status == 413:
        return RefusedError("the package is over the 100 MiB that Ray takes; put large files into the image")
    if answer.status == 400:
        return RefusedError(f"Ray refuses the submission: {last_line(answer.text)}")
    return UnreachableError(
        f"{method} {path} on the head at {head.address}: HTTP {answer.status}: {last_line(answer.text)}"
    )


def _job(body: dict[str, Any]) -> Job:
    message = str(body.get("message") or "")
    code = body.get("driver_exit_code")
    return Job(
        submission_id=str(body.get("submission_id") or ""),
        status=str(body.get("status") or ""),
        metadata={str(key): str(value) for key, value in (body.get("metadata") or {}).items()},
        message=message[-TEXT_LIMIT:],
        error_type=str(body.get("error_type") or ""),
        exit_code=code if isinstance(code, int) else None,
    )


def last_line(text: str) -> str:
    """The last line that says something: of a traceback, the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:TEXT_LIMIT] if lines else "(no text)"
