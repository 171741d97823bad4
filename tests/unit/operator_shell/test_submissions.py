"""A submission is posted to the one head that was meant, with its packages, and to no other."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from workflow_operator.adapters.ray_jobs import Head, Job, RayJobs, Submission
from workflow_operator.adapters.submissions import Sources, Submissions
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import HeadRef, RunRef, StoreRef, SubmitRun
from workflow_operator.core.observation import HeadUnreachable, JobState, SubmissionView
from workflow_operator.errors import RefusedError, UnreachableError

IDENTITY = HeadIdentity(pod_uid="pod-1", container_id="c-1")
HEAD = HeadRef("trip-1", IDENTITY, "198.18.0.9", "trip-1")
RUN = RunRef(StoreRef("s3://b/team", "minio"), "trip", 1, "run-1", "uid-1", 1, "trip")


@dataclass
class Recorder(RayJobs):
    """Stands for the Jobs API and writes down what it is asked."""

    said: list[object] = field(default_factory=list)
    answer: Job | Exception | None = None

    async def job(self, head: Head, submission_id: str) -> Job | None:
        self.said.append(head.address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ensure_package(self, head: Head, name: str, data: bytes) -> bool:
        self.said.append(name)
        return True

    async def submit(self, head: Head, submission: Submission) -> Job:
        self.said.append(submission)
        return Job(submission.submission_id, "PENDING", {})


def submissions(jobs: Recorder, now: HeadIdentity | None = IDENTITY, address: str = "http://{ip}:8265") -> Submissions:
    async def token(namespace: str, secret: str) -> str:
        return f"token of {secret}"

    async def library() -> tuple[str, bytes]:
        return "lib.zip", b""

    async def code(namespace: str, run: RunRef, sha256: str) -> tuple[str, bytes]:
        return f"{sha256}.zip", b""

    async def identity(namespace: str, cluster: str) -> HeadIdentity | None:
        return now

    return Submissions(jobs, Sources(token, library, code, identity), address)


def submit_run(code: str = "abc") -> SubmitRun:
    return SubmitRun(
        HEAD, "rwf-uid-1-1", "python -m workflow.entrypoint {}", RUN, code, {"pip": ["x"]}, {"uid": "uid-1"}
    )


async def test_packages_come_first_and_are_named_in_the_runtime_env() -> None:
    jobs = Recorder()
    await submissions(jobs).submit("team", submit_run())
    environment = {"pip": ["x"], "py_modules": ["gcs://lib.zip"], "working_dir": "gcs://abc.zip"}
    posted = Submission("rwf-uid-1-1", "python -m workflow.entrypoint {}", environment, {"uid": "uid-1"})
    assert jobs.said == ["lib.zip", "abc.zip", posted]


async def test_code_in_the_image_needs_no_working_dir() -> None:
    jobs = Recorder()
    await submissions(jobs).submit("team", submit_run(code=""))
    assert isinstance(jobs.said[-1], Submission)
    assert "working_dir" not in jobs.said[-1].runtime_env


@pytest.mark.parametrize(
    "now",
    [None, HeadIdentity(pod_uid="pod-2", container_id="c-1"), HeadIdentity(pod_uid="pod-1", container_id="c-2")],
    ids=["gone", "another pod", "restarted container"],
)
async def test_nothing_is_posted_to_another_head(now: HeadIdentity | None) -> None:
    jobs = Recorder()
    with pytest.raises(UnreachableError, match="not the one that was meant"):
        await submissions(jobs, now).submit("team", submit_run())
    assert not [one for one in jobs.said if isinstance(one, Submission)]


@pytest.mark.parametrize(
    ("ip", "address"),
    [("198.18.0.9", "http://198.18.0.9:8265"), ("fd00::9", "http://[fd00::9]:8265")],
    ids=["IPv4", "IPv6"],
)
async def test_the_head_is_reached_at_its_own_address(ip: str, address: str) -> None:
    jobs = Recorder()
    await submissions(jobs).state("team", HeadRef("trip-1", IDENTITY, ip, ""), "rwf-1")
    assert jobs.said == [address]


@pytest.mark.parametrize(
    ("answer", "view"),
    [
        (None, SubmissionView(JobState.UNKNOWN)),
        (Job("rwf-1", "FAILED", {}, "boom", exit_code=3), SubmissionView(JobState.FAILED, 3, "boom")),
        (UnreachableError("nobody there"), HeadUnreachable("nobody there")),
        (RefusedError("wrong token"), HeadUnreachable("wrong token")),
    ],
    ids=["unknown", "failed", "no answer", "refused"],
)
async def test_what_the_head_says_is_a_value(answer: Job | Exception | None, view: object) -> None:
    assert await submissions(Recorder(answer=answer)).state("team", HEAD, "rwf-1") == view


def test_tokens_and_environments_are_not_in_what_is_printed() -> None:
    shown = repr(Head("http://x", "secret")) + repr(Submission("i", "e", {"env_vars": {"K": "secret"}}, {}))
    assert "secret" not in shown
