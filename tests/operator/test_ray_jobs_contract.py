"""Contract of Ray's Jobs API: the same tests run on a real head and on the fake head."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from uuid import uuid4

import aiohttp
import pytest

from tests.operator.fake_ray import FakeRay
from tests.operator.real_ray import real_ray
from tests.support.waiting import eventually
from workflow_operator.adapters.packages import code_package
from workflow_operator.adapters.ray_jobs import HeadEndpoint, Job, RayJobs, Submission
from workflow_operator.errors import RefusedError, UnreachableError

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="session")
def real_head() -> Iterator[HeadEndpoint]:
    with real_ray(TOKEN) as head:
        yield head


@pytest.fixture(params=["fake", "real"])
async def head(request: pytest.FixtureRequest) -> AsyncIterator[HeadEndpoint]:
    if request.param == "real":
        yield request.getfixturevalue("real_head")
        return
    async with FakeRay(token=TOKEN).serving() as ray:
        ray.head("team", "trip")
        yield HeadEndpoint(f"{ray.address}/team/trip", TOKEN)


@pytest.fixture
async def jobs() -> AsyncIterator[RayJobs]:
    async with aiohttp.ClientSession() as session:
        yield RayJobs(session, timeout=60)


def submission(entrypoint: str, **runtime_env: object) -> Submission:
    return Submission(f"trip-{uuid4().hex[:8]}", entrypoint, runtime_env, {"uid": "u-1", "attempt": "1"})


async def until_finished(jobs: RayJobs, head: HeadEndpoint, submission_id: str) -> Job:
    async def finished_job() -> Job | None:
        job = await jobs.job(head, submission_id)
        return job if job and job.is_finished else None

    return await eventually(finished_job, timeout=60)


async def test_version_of_the_head(jobs: RayJobs, head: HeadEndpoint) -> None:
    assert await jobs.version(head) == "2.60.0"


async def test_unknown_submission_is_none(jobs: RayJobs, head: HeadEndpoint) -> None:
    assert await jobs.job(head, "never-submitted") is None


@pytest.mark.parametrize("token", ["", "another"], ids=["no token", "wrong token"])
async def test_missing_or_wrong_token_is_refused(jobs: RayJobs, head: HeadEndpoint, token: str) -> None:
    with pytest.raises(RefusedError, match="must contain the token") as caught:
        await jobs.version(replace(head, token=token))
    assert TOKEN not in str(caught.value)


async def test_closed_port_is_unreachable(jobs: RayJobs) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        await jobs.version(HeadEndpoint("http://127.0.0.1:9"))


async def test_package_is_uploaded_once(jobs: RayJobs, head: HeadEndpoint) -> None:
    package = code_package({"trip.py": uuid4().bytes})
    assert await jobs.ensure_package(head, package.name, package.data)
    assert not await jobs.ensure_package(head, package.name, package.data)


async def test_package_over_the_limit_is_refused(jobs: RayJobs, head: HeadEndpoint) -> None:
    with pytest.raises(RefusedError, match="100 MiB"):
        await jobs.ensure_package(head, "_ray_pkg_large.zip", bytes((100 << 20) + 1))


async def test_exit_code_of_the_entrypoint_is_reported(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("exit 4")
    await jobs.submit(head, wanted)
    job = await until_finished(jobs, head, wanted.submission_id)
    assert (job.status, job.exit_code, job.error_type) == ("FAILED", 4, "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert "exit code 4" in job.message


async def test_submission_finds_its_packages(jobs: RayJobs, head: HeadEndpoint) -> None:
    package = code_package({"trip.py": b"raise SystemExit(0)\n"})
    await jobs.ensure_package(head, package.name, package.data)
    wanted = submission("exit 0", working_dir=package.uri, py_modules=[package.uri])
    await jobs.submit(head, wanted)
    assert (await until_finished(jobs, head, wanted.submission_id)).status == "SUCCEEDED"


async def test_unknown_package_fails_the_job(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("exit 0", working_dir="gcs://_ray_pkg_never_uploaded.zip")
    await jobs.submit(head, wanted)
    job = await until_finished(jobs, head, wanted.submission_id)
    assert (job.status, job.exit_code) == ("FAILED", None)
    assert "runtime_env" in job.message


async def test_repeated_submit_returns_the_existing_job(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("sleep 1000")
    await jobs.submit(head, wanted)
    again = await jobs.submit(head, wanted)
    assert again.submission_id == wanted.submission_id
    assert again.metadata == {"uid": "u-1", "attempt": "1"}
    await jobs.stop(head, wanted.submission_id)


async def test_submit_that_races_another_returns_its_job(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("exit 0")
    await jobs.submit(head, wanted)
    racing = RacingRayJobs(jobs)
    assert (await racing.submit(head, wanted)).submission_id == wanted.submission_id


async def test_id_of_a_foreign_job_is_refused(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("exit 0")
    await jobs.submit(head, wanted)
    with pytest.raises(RefusedError, match="belongs to a job of another Workflow or user"):
        await jobs.submit(head, replace(wanted, metadata={"uid": "u-2", "attempt": "1"}))


async def test_log_of_a_driver_is_read(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("echo größer 😀 than")
    await jobs.submit(head, wanted)
    await until_finished(jobs, head, wanted.submission_id)
    assert "größer 😀 than\n" in (await jobs.log_tail(head, wanted.submission_id)).decode()


async def test_log_of_an_unknown_submission_is_refused(jobs: RayJobs, head: HeadEndpoint) -> None:
    with pytest.raises(RefusedError, match="does not know the submission"):
        await jobs.log_tail(head, "never-submitted")


async def test_malformed_submission_is_refused(jobs: RayJobs, head: HeadEndpoint) -> None:
    with pytest.raises(RefusedError, match="Ray refuses the submission"):
        await jobs.submit(head, replace(submission("exit 0"), metadata={"uid": 1}))  # type: ignore[dict-item]


async def test_stop_is_idempotent(jobs: RayJobs, head: HeadEndpoint) -> None:
    wanted = submission("sleep 1000")
    await jobs.submit(head, wanted)
    await jobs.stop(head, wanted.submission_id)
    assert (await until_finished(jobs, head, wanted.submission_id)).status == "STOPPED"
    await jobs.stop(head, wanted.submission_id)
    await jobs.stop(head, "never-submitted")


class RacingRayJobs(RayJobs):
    """Its first read of a job returns None, as for a replica that read before another replica posted the job."""

    def __init__(self, jobs: RayJobs) -> None:
        super().__init__(jobs._session)
        self._has_read = False

    async def job(self, head: HeadEndpoint, submission_id: str) -> Job | None:
        if not self._has_read:
            self._has_read = True
            return None
        return await super().job(head, submission_id)


def test_package_contains_the_files_at_its_root() -> None:
    package = code_package({"trip.py": b"x = 1\n"})
    with zipfile.ZipFile(io.BytesIO(package.data)) as archive:
        assert archive.namelist() == ["trip.py"]
