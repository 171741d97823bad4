"""A client of Ray's Jobs HTTP API, the only connection of the operator to a Ray cluster. It does not need Ray.

It is written for Ray 2.47 to 2.60. Its contract tests in tests/operator run on a real head, and on the fake head of the
other operator tests. The client relies on these responses, which Ray does not document:

- 404: the submission id is unknown.
- 500 with "already exists": the submission id is in use.
- 401: the token is missing.
- 403: the token is wrong.
- 413: the package has more than 100 MiB.
"""

from __future__ import annotations

import errno
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp

from workflow_operator.core.meshes import CLOSED_WITHOUT_REPLY, refusal_of_proxy
from workflow_operator.core.texts import cause_first, clip, plain
from workflow_operator.errors import AnsweredError, RefusedError, UnreachableError

TERMINAL_STATUSES = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
TEXT_LIMIT = 2000
"""Longest text that is kept of a response, in characters. The message of a failed job has up to 20,000."""
SHOWN = 200
"""Longest text of a response that is not understood, in characters."""
_RESET = (errno.ECONNRESET, errno.EPIPE)


LOG_TAIL = 256 << 10
"""Bytes of a driver's log that are kept."""

LOG_TAIL_JSON = 6 * LOG_TAIL
"""Bytes of JSON that contain at least this many bytes of the log: an escape sequence has at most six times the size."""

LOG_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class HeadEndpoint:
    """The address of a head's dashboard, and its token.

    Attributes:
        address: `http://host:port`, without a trailing slash.
        token: sent as a bearer token; empty if the cluster has no token authentication.
    """

    address: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to start.

    Attributes:
        submission_id: derived from the Workflow's uid and the submission attempt, never random.
        entrypoint: the shell command that the head runs.
        runtime_env: Ray's runtime environment; may contain credentials.
        metadata: strings that identify the Workflow, to detect a foreign job with the same id.
    """

    submission_id: str
    entrypoint: str
    runtime_env: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """A submission as Ray reports it.

    Attributes:
        submission_id: the id that it was submitted with.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        metadata: the strings that it was submitted with.
        message: Ray's message. For a failed job, this is the error that ended it, and the end of its log.
        error_type: Ray's name for the type of failure, or empty.
        exit_code: the exit code of the entrypoint, or None if the entrypoint did not exit by itself.
    """

    submission_id: str
    status: str
    metadata: Mapping[str, str]
    message: str = ""
    error_type: str = ""
    exit_code: int | None = None

    @property
    def is_finished(self) -> bool:
        """Return whether the status is final."""
        return self.status in TERMINAL_STATUSES


class RayJobs:
    """The Jobs API of any number of heads, over one HTTP session.

    Args:
        session: an aiohttp session; the caller closes it.
        timeout: the timeout of a whole request in seconds; uploads have ten times this.
    """

    def __init__(self, session: aiohttp.ClientSession, *, timeout: float = 10.0) -> None:
        self._session = session
        self._timeout = timeout

    async def version(self, head: HeadEndpoint) -> str:
        """Return Ray's version on the head. It is the cheapest request that a live head answers.

        Raises:
            UnreachableError: the head does not answer, or fails temporarily.
            RefusedError: the token is missing or wrong.
        """
        answer = await self._call("GET", head, "/api/version")
        return str(answer.json_object().get("ray_version", ""))

    async def job(self, head: HeadEndpoint, submission_id: str) -> Job | None:
        """Return a submission, or None if the head does not know the id.

        Raises:
            UnreachableError: the head does not answer, or fails temporarily.
            RefusedError: the token is missing or wrong.
        """
        answer = await self._call("GET", head, f"/api/jobs/{submission_id}", accept=(404,))
        return None if answer.status == 404 else _job(answer.json_object())

    async def ensure_package(self, head: HeadEndpoint, name: str, data: bytes) -> bool:
        """Upload a package unless the head has it, and pin it on the head for ten minutes.

        A GET pins a package and an upload does not, so the upload is followed by a GET.

        Args:
            head: the head to upload to.
            name: `_ray_pkg_<hash of the content>.zip`.
            data: the bytes of the zip.

        Returns:
            True if the package was uploaded.

        Raises:
            UnreachableError: the head does not answer, or fails temporarily.
            RefusedError: the token is missing or wrong, or the package is too large.
        """
        path = f"/api/packages/gcs/{name}"
        if (await self._call("GET", head, path, accept=(404,))).status == 200:
            return False
        await self._call("PUT", head, path, data=io.BytesIO(data))
        await self._call("GET", head, path)
        return True

    async def submit(self, head: HeadEndpoint, submission: Submission) -> Job:
        """Start a job, exactly once for its id. If the head already has this job, return it.

        Returns:
            The new job, or the job that an earlier call with a lost response started.

        Raises:
            RefusedError: a job with other metadata has this id, or Ray rejects the request.
            UnreachableError: the outcome is unknown; call again.
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
                raise UnreachableError(f"the head at {head.address} cannot start the job: {last_line(answer.text)}")
            known = await self.job(head, submission.submission_id)
            if known is None:
                raise UnreachableError(
                    f"the head at {head.address} accepted job {submission.submission_id} but does not list it"
                )
        if dict(known.metadata) != dict(submission.metadata):
            raise RefusedError(
                f"the submission id {submission.submission_id} belongs to a job of another Workflow or user on this "
                f"cluster; delete that job, or give the Workflow another name"
            )
        return known

    async def stop(self, head: HeadEndpoint, submission_id: str) -> None:
        """Stop the driver of a job. If the job is finished or unknown, do nothing.

        Raises:
            UnreachableError: the head does not answer, or fails temporarily.
            RefusedError: the token is missing or wrong.
        """
        await self._call("POST", head, f"/api/jobs/{submission_id}/stop", accept=(404,))

    async def log_tail(self, head: HeadEndpoint, submission_id: str) -> bytes:
        """Return the end of a driver's log, at most 256 KiB of UTF-8. The memory that this needs has a fixed limit.

        Raises:
            UnreachableError: the head does not answer, or fails temporarily.
            RefusedError: the token is missing or wrong, or the head does not know the submission.
        """
        method, path, tail = "GET", f"/api/jobs/{submission_id}/logs", bytearray()
        async with self._response(method, head, path, self._timeout) as response:
            if response.status == 404:
                raise RefusedError(f"the head at {head.address} does not know the submission {submission_id}")
            if response.status != 200:
                raise _refusal(method, head, path, _Answer(response.status, await response.text(errors="replace")))
            async for chunk in response.content.iter_chunked(LOG_CHUNK):
                tail += chunk
                if len(tail) > 2 * LOG_TAIL_JSON:
                    del tail[:-LOG_TAIL_JSON]
        return _log_of(bytes(tail[-LOG_TAIL_JSON:]))

    @asynccontextmanager
    async def _response(
        self, method: str, head: HeadEndpoint, path: str, seconds: float, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; a failure of the connection becomes an UnreachableError."""
        headers = {"Authorization": f"Bearer {head.token}"} if head.token else {}
        try:
            async with self._session.request(
                method,
                head.address + path,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
                **body,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"the head at {head.address} does not answer: {_why_no_reply(error)}") from error

    async def _call(
        self, method: str, head: HeadEndpoint, path: str, *, accept: tuple[int, ...] = (), **body: Any
    ) -> _Answer:
        seconds = self._timeout * (10 if "data" in body else 1)
        async with self._response(method, head, path, seconds, **body) as response:
            answer = _Answer(response.status, await response.text(errors="replace"), dict(response.headers))
        if answer.status == 200 or answer.status in accept:
            return answer
        raise _refusal(method, head, path, answer)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def json_object(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text)
        except ValueError as error:
            raise AnsweredError(f"the response of the head is not JSON: {clip(self.text, SHOWN)!r}") from error
        if not isinstance(value, dict):
            raise AnsweredError(f"the response of the head is not a JSON object: {clip(self.text, SHOWN)!r}")
        return cast("dict[str, Any]", value)


def _why_no_reply(error: Exception) -> str:
    described = f"{type(error).__name__}: {error}".removesuffix(": ")
    is_reset = isinstance(error, aiohttp.ServerDisconnectedError) or getattr(error, "errno", None) in _RESET
    return f"{described}; {CLOSED_WITHOUT_REPLY}" if is_reset else described


def _refusal(method: str, head: HeadEndpoint, path: str, answer: _Answer) -> Exception:
    by_proxy = refusal_of_proxy(answer.status, answer.headers, answer.text)
    if by_proxy:
        return UnreachableError(f"the head at {head.address} does not answer: {by_proxy}")
    if answer.status in (401, 403):
        return RefusedError(
            f"the head at {head.address} refuses the token (HTTP {answer.status}); the Secret of the cluster must "
            f"contain the token that the cluster was started with"
        )
    if answer.status == 413:
        return RefusedError("the package is larger than the 100 MiB that Ray accepts; put large files into the image")
    if answer.status == 400:
        return RefusedError(f"Ray refuses the submission: {last_line(answer.text)}")
    return AnsweredError(
        f"{method} {path} on the head at {head.address} failed: HTTP {answer.status}: {last_line(answer.text)}"
    )


def _job(body: dict[str, Any]) -> Job:
    message = str(body.get("message") or "")
    code = body.get("driver_exit_code")
    return Job(
        submission_id=str(body.get("submission_id") or ""),
        status=str(body.get("status") or ""),
        metadata={str(key): str(value) for key, value in (body.get("metadata") or {}).items()},
        message=clip(cause_first(plain(message)), TEXT_LIMIT),
        error_type=str(body.get("error_type") or ""),
        exit_code=code if isinstance(code, int) else None,
    )


def _log_of(tail: bytes) -> bytes:
    """Return the end of the log from the end of the JSON object `{"logs": "<text>"}`.

    If the beginning is cut off, the text up to the first line end is removed, because an escape sequence may be cut.
    """
    text, start = tail.decode(errors="replace").rstrip(), '{"logs": "'
    is_whole = text.startswith(start)
    text = text.removeprefix(start) if is_whole else text.partition("\\n" if "\\n" in text else " ")[2]
    try:
        log = str(json.loads(f'"{text.removesuffix("}").rstrip()}', strict=False))
    except ValueError as error:
        raise UnreachableError(f"the response of the head is not a log: {text[-200:]!r}") from error
    end = log.encode(errors="replace")[-LOG_TAIL:]
    return end if is_whole and len(end) < LOG_TAIL else end.partition(b"\n")[2] or end


def last_line(text: str) -> str:
    """Return the last line that is not blank. For a traceback, this is the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return clip(lines[-1], TEXT_LIMIT) if lines else "(no text)"
