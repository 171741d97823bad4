"""A FAKE Ray: the part of the Jobs HTTP API that the operator uses, without Ray, for any number of heads.

Each head has a path of its own, `/<namespace>/<cluster>`, so that one server stands for all clusters of a test. It
passes the same contract as a real head (test_ray_jobs_contract.py). A test says what an entrypoint does by `behaviour`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PACKAGE_LIMIT = 100 << 20


@dataclass
class FakeJob:
    """A submission on a fake head; `body` is what was posted."""

    body: dict[str, Any]
    status: str = "PENDING"
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    task: asyncio.Task[None] | None = None


@dataclass
class FakeHead:
    """What one head remembers; a new one under the same name has forgotten everything."""

    packages: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    posts: list[str] = field(default_factory=list)

    async def stop(self) -> None:
        """End every driver, as the death of the head does."""
        tasks = [job.task for job in self.jobs.values() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Behaviour = Callable[[FakeJob], Awaitable[int]]
"""Plays an entrypoint and returns its exit code."""


async def shell(job: FakeJob) -> int:
    """The behaviour unless a test says otherwise: `exit N` ends with N, all else runs until it is stopped."""
    words = job.body["entrypoint"].split()
    if words[0] == "exit":
        return int(words[1])
    await asyncio.Event().wait()
    return 0


class FakeRay:
    """A server of fake heads.

    Attributes:
        heads: (namespace, cluster) -> its head; a cluster that is not here does not answer.
        lose: (method, words of the path) whose next answers are lost after they took effect, with how many.
    """

    def __init__(self, *, token: str = "", behaviour: Behaviour = shell) -> None:
        self.token = token
        self.behaviour = behaviour
        self.heads: dict[tuple[str, str], FakeHead] = {}
        self.lose: Counter[tuple[str, str]] = Counter()
        self.address = ""

    def head(self, namespace: str, cluster: str) -> FakeHead:
        """The head of a cluster, made where there is none."""
        return self.heads.setdefault((namespace, cluster), FakeHead())

    async def kill(self, namespace: str, cluster: str) -> None:
        """The head dies: it does not answer any more, and all it knew is gone."""
        head = self.heads.pop((namespace, cluster), None)
        if head:
            await head.stop()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeRay]:
        """Listen on a free loopback port for the length of a block."""
        app = web.Application(client_max_size=PACKAGE_LIMIT, middlewares=[self._guard])
        app.router.add_get("/{ns}/{cluster}/api/version", self._version)
        app.router.add_get("/{ns}/{cluster}/api/packages/gcs/{name}", self._get_package)
        app.router.add_put("/{ns}/{cluster}/api/packages/gcs/{name}", self._put_package)
        app.router.add_get("/{ns}/{cluster}/api/jobs/{id}", self._get_job)
        app.router.add_post("/{ns}/{cluster}/api/jobs/", self._post_job)
        app.router.add_post("/{ns}/{cluster}/api/jobs/{id}/stop", self._stop_job)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.address = f"http://{host}:{port}"
        try:
            yield self
        finally:
            for head in list(self.heads.values()):
                await head.stop()
            await runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if (request.match_info.get("ns", ""), request.match_info.get("cluster", "")) not in self.heads:
            assert request.transport is not None
            request.transport.close()  # nobody listens there
            return web.Response(status=503)
        if self.token:
            given = request.headers.get("Authorization", "")
            if not given:
                return web.Response(status=401, text="Unauthorized: Missing authentication token")
            if given != f"Bearer {self.token}":
                return web.Response(status=403, text="Forbidden: Invalid authentication token")
        response = await handler(request)
        for (method, words), left in list(self.lose.items()):
            if left and method == request.method and words in request.path:
                self.lose[method, words] -= 1
                assert request.transport is not None
                request.transport.close()
        return response

    def _of(self, request: web.Request) -> FakeHead:
        return self.heads[request.match_info["ns"], request.match_info["cluster"]]

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0"})

    async def _get_package(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._of(request).packages:
            return web.Response(status=404, text=f"Package gcs://{name} does not exist")
        return web.Response()

    async def _put_package(self, request: web.Request) -> web.Response:
        self._of(request).packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _get_job(self, request: web.Request) -> web.Response:
        job = self._of(request).jobs.get(request.match_info["id"])
        if job is None:
            return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")
        return web.json_response(
            {
                "type": "SUBMISSION",
                "submission_id": job.body["submission_id"],
                "status": job.status,
                "entrypoint": job.body["entrypoint"],
                "message": job.message,
                "error_type": job.error_type,
                "metadata": job.body["metadata"],
                "runtime_env": job.body["runtime_env"],
                "driver_exit_code": job.exit_code,
            }
        )

    async def _post_job(self, request: web.Request) -> web.Response:
        head, body = self._of(request), json.loads(await request.text())
        if not all(isinstance(value, str) for value in body["metadata"].values()):
            return web.Response(status=400, text="TypeError: metadata values must be strings")
        if body["submission_id"] in head.jobs:
            text = f"Traceback ...\nRuntimeError: Job with submission_id {body['submission_id']} already exists."
            return web.Response(status=500, text=text)
        job = FakeJob(body)
        head.posts.append(body["submission_id"])
        head.jobs[body["submission_id"]] = job
        job.task = asyncio.create_task(self._play(head, job))
        return web.json_response({"job_id": body["submission_id"], "submission_id": body["submission_id"]})

    async def _play(self, head: FakeHead, job: FakeJob) -> None:
        env = job.body["runtime_env"]
        for uri in [*env.get("py_modules", []), *([env["working_dir"]] if "working_dir" in env else [])]:
            if uri.removeprefix("gcs://") not in head.packages:
                job.status, job.error_type = "FAILED", "RUNTIME_ENV_SETUP_FAILURE"
                job.message = f"runtime_env setup failed: Failed to set up runtime environment.\n{uri} not found"
                return
        job.status = "RUNNING"
        job.exit_code = await self.behaviour(job)
        job.status = "FAILED" if job.exit_code else "SUCCEEDED"
        if job.exit_code:
            job.error_type = "JOB_ENTRYPOINT_COMMAND_ERROR"
            job.message = f"Job entrypoint command failed with exit code {job.exit_code}, last available logs"

    async def _stop_job(self, request: web.Request) -> web.Response:
        job = self._of(request).jobs.get(request.match_info["id"])
        if job is None:
            return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")
        if job.status in ("SUCCEEDED", "FAILED", "STOPPED"):
            return web.json_response({"stopped": False})
        if job.task:
            job.task.cancel()
        job.status, job.message = "STOPPED", "Job was intentionally stopped."
        return web.json_response({"stopped": True})
