"""Submissions: packages are uploaded first, and only the intended head receives the job."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from workflow_operator.adapters.ray_jobs import HeadEndpoint, Job, RayJobs, Submission
from workflow_operator.adapters.submissions import Sources, Submissions
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import HeadRef, RunRef, StoreRef, SubmitRun
from workflow_operator.core.observation import HeadRefused, HeadUnreachable, JobState, SubmissionView
from workflow_operator.errors import AnsweredError, RefusedError, UnreachableError

IDENTITY = HeadIdentity(pod_uid="pod-1", container_id="c-1")
HEAD = HeadRef("trip-1", IDENTITY, "198.18.0.9", "trip-1")
RUN = RunRef(StoreRef("s3://b/team", "minio"), "trip", 1, "run-1", "uid-1", 1, "trip")


@dataclass
class RecordingJobs(RayJobs):
    """A fake of the Jobs API that records its calls."""

    calls: list[object] = field(default_factory=list)
    answer: Job | Exception | None = None

    async def job(self, head: HeadEndpoint, submission_id: str) -> Job | None:
        self.calls.append(head.address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ensure_package(self, head: HeadEndpoint, name: str, data: bytes) -> bool:
        self.calls.append(name)
        return True

    async def submit(self, head: HeadEndpoint, submission: Submission) -> Job:
        self.calls.append(submission)
        return Job(submission.submission_id, "PENDING", {})


def submissions(
    jobs: RecordingJobs,
    current: HeadIdentity | None = IDENTITY,
    address: str = "http://{ip}:8265",
    token_error: Exception | None = None,
) -> Submissions:
    async def token(namespace: str, secret: str) -> str:
        if token_error is not None:
            raise token_error
        return f"token of {secret}"

    async def library() -> tuple[str, bytes]:
        return "lib.zip", b""

    async def code(namespace: str, run: RunRef, sha256: str) -> tuple[str, bytes]:
        return f"{sha256}.zip", b""

    async def identity(namespace: str, cluster: str) -> HeadIdentity | None:
        return current

    return Submissions(jobs, Sources(token, library, code, identity), address)


def submit_run(code: str = "abc") -> SubmitRun:
    return SubmitRun(
        HEAD, "rwf-uid-1-1", "python -m workflow.entrypoint {}", RUN, code, {"pip": ["x"]}, {"uid": "uid-1"}
    )


async def test_packages_are_uploaded_before_the_job_is_posted() -> None:
    jobs = RecordingJobs()
    await submissions(jobs).submit("team", submit_run())
    environment = {"pip": ["x"], "py_modules": ["gcs://lib.zip"], "working_dir": "gcs://abc.zip"}
    posted = Submission("rwf-uid-1-1", "python -m workflow.entrypoint {}", environment, {"uid": "uid-1"})
    assert jobs.calls == ["lib.zip", "abc.zip", posted]


async def test_code_in_the_image_gives_no_working_dir() -> None:
    jobs = RecordingJobs()
    await submissions(jobs).submit("team", submit_run(code=""))
    assert isinstance(jobs.calls[-1], Submission)
    assert "working_dir" not in jobs.calls[-1].runtime_env


@pytest.mark.parametrize(
    "current",
    [None, HeadIdentity(pod_uid="pod-2", container_id="c-1"), HeadIdentity(pod_uid="pod-1", container_id="c-2")],
    ids=["no head", "another pod", "restarted container"],
)
async def test_nothing_is_posted_to_a_replaced_head(current: HeadIdentity | None) -> None:
    jobs = RecordingJobs()
    with pytest.raises(UnreachableError, match="was replaced before the run was submitted"):
        await submissions(jobs, current).submit("team", submit_run())
    assert not [call for call in jobs.calls if isinstance(call, Submission)]


@pytest.mark.parametrize(
    ("ip", "address"),
    [("198.18.0.9", "http://198.18.0.9:8265"), ("fd00::9", "http://[fd00::9]:8265")],
    ids=["IPv4", "IPv6"],
)
async def test_head_address_is_built_from_the_pod_ip(ip: str, address: str) -> None:
    jobs = RecordingJobs()
    await submissions(jobs).state("team", HeadRef("trip-1", IDENTITY, ip, ""), "rwf-1")
    assert jobs.calls == [address]


@pytest.mark.parametrize(
    ("answer", "view"),
    [
        (None, SubmissionView(JobState.UNKNOWN)),
        (Job("rwf-1", "FAILED", {}, "boom", exit_code=3), SubmissionView(JobState.FAILED, 3, "boom")),
        (UnreachableError("connection refused"), HeadUnreachable("connection refused")),
        (RefusedError("wrong token"), HeadRefused("HeadRefusesToken", "wrong token")),
        (AnsweredError("HTTP 500"), HeadRefused("HeadError", "HTTP 500")),
    ],
    ids=["unknown", "failed", "no answer", "refused", "error"],
)
async def test_answer_of_the_head_becomes_a_value(answer: Job | Exception | None, view: object) -> None:
    assert await submissions(RecordingJobs(answer=answer)).state("team", HEAD, "rwf-1") == view


async def test_missing_token_is_not_a_missing_reply() -> None:
    jobs = RecordingJobs()
    adapter = submissions(jobs, token_error=RefusedError("the Secret trip-1 does not exist"))
    refused = HeadRefused("TokenUnreadable", "the Secret trip-1 does not exist")
    assert await adapter.state("team", HEAD, "rwf-1") == refused
    assert not jobs.calls


async def test_failure_of_the_api_server_ends_the_round() -> None:
    adapter = submissions(RecordingJobs(), token_error=UnreachableError("the API server does not answer"))
    with pytest.raises(UnreachableError, match="the API server"):
        await adapter.state("team", HEAD, "rwf-1")


def test_tokens_and_environments_are_not_in_the_repr() -> None:
    text = repr(HeadEndpoint("http://x", "secret")) + repr(Submission("i", "e", {"env_vars": {"K": "secret"}}, {}))
    assert "secret" not in text
