"""A fake Ray: the part of the Jobs HTTP API that the operator uses, without Ray, for any number of heads.

Each head has a path of its own, `/<namespace>/<cluster>`, so that one server can fake all clusters of a test. It passes
the same contract tests as a real head (test_ray_jobs_contract.py). A test passes a `behaviour` that fakes entrypoints.
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
    """A submission on a fake head. `body` is the JSON that was posted, and `log` the output of its driver."""

    body: dict[str, Any]
    status: str = "PENDING"
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    task: asyncio.Task[None] | None = None
    log: str = ""


@dataclass
class FakeHead:
    """The state of one head. A new head of the same cluster starts without it."""

    packages: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    posts: list[str] = field(default_factory=list)

    async def stop(self) -> None:
        """Stop every driver, as if the head died."""
        tasks = [job.task for job in self.jobs.values() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Behaviour = Callable[[FakeJob], Awaitable[int]]
"""Fakes an entrypoint, and returns its exit code."""


async def shell(job: FakeJob) -> int:
    """Execute the default behaviour: `exit N` exits, `echo` prints, and other commands run until they are stopped."""
    words = job.body["entrypoint"].split()
    if words[0] == "echo":
        job.log = " ".join(words[1:]) + "\n"
        return 0
    if words[0] == "exit":
        return int(words[1])
    await asyncio.Event().wait()
    return 0


class FakeRay:
    """A server of fake heads.

    Attributes:
        heads: the head of each (namespace, cluster). Requests to other clusters get no response.
        lose: how many of the next responses are lost, by (method, part of the path). The requests take effect.
    """

    def __init__(self, *, token: str = "", behaviour: Behaviour = shell) -> None:
        self.token = token
        self.behaviour = behaviour
        self.heads: dict[tuple[str, str], FakeHead] = {}
        self.lose: Counter[tuple[str, str]] = Counter()
        self.address = ""

    def head(self, namespace: str, cluster: str) -> FakeHead:
        """Return the head of a cluster; create it if it does not exist."""
        return self.heads.setdefault((namespace, cluster), FakeHead())

    async def kill(self, namespace: str, cluster: str) -> None:
        """Kill a head. It no longer answers, and its state is lost."""
        head = self.heads.pop((namespace, cluster), None)
        if head:
            await head.stop()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeRay]:
        """Listen on a free loopback port while the block runs."""
        app = web.Application(client_max_size=PACKAGE_LIMIT, middlewares=[self._guard])
        app.router.add_get("/{ns}/{cluster}/api/version", self._version)
        app.router.add_get("/{ns}/{cluster}/api/packages/gcs/{name}", self._get_package)
        app.router.add_put("/{ns}/{cluster}/api/packages/gcs/{name}", self._put_package)
        app.router.add_get("/{ns}/{cluster}/api/jobs/{id}", self._get_job)
        app.router.add_get("/{ns}/{cluster}/api/jobs/{id}/logs", self._get_log)
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
            request.transport.close()  # as if no server listens there
            return web.Response(status=503)
        if self.token:
            header = request.headers.get("Authorization", "")
            if not header:
                return web.Response(status=401, text="Unauthorized: Missing authentication token")
            if header != f"Bearer {self.token}":
                return web.Response(status=403, text="Forbidden: Invalid authentication token")
        response = await handler(request)
        for (method, part), remaining in list(self.lose.items()):
            if remaining and method == request.method and part in request.path:
                self.lose[method, part] -= 1
                assert request.transport is not None
                request.transport.close()
        return response

    def _head_of(self, request: web.Request) -> FakeHead:
        return self.heads[request.match_info["ns"], request.match_info["cluster"]]

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0"})

    async def _get_package(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._head_of(request).packages:
            return web.Response(status=404, text=f"Package gcs://{name} does not exist")
        return web.Response()

    async def _put_package(self, request: web.Request) -> web.Response:
        self._head_of(request).packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _get_job(self, request: web.Request) -> web.Response:
        job = self._head_of(request).jobs.get(request.match_info["id"])
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

    async def _get_log(self, request: web.Request) -> web.Response:
        job = self._head_of(request).jobs.get(request.match_info["id"])
        if job is None:
            return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")
        return web.json_response({"logs": job.log})

    async def _post_job(self, request: web.Request) -> web.Response:
        head, body = self._head_of(request), json.loads(await request.text())
        if not all(isinstance(value, str) for value in body["metadata"].values()):
            return web.Response(status=400, text="TypeError: metadata values must be strings")
        if body["submission_id"] in head.jobs:
            text = f"Traceback ...\nRuntimeError: Job with submission_id {body['submission_id']} already exists."
            return web.Response(status=500, text=text)
        job = FakeJob(body)
        head.posts.append(body["submission_id"])
        head.jobs[body["submission_id"]] = job
        job.task = asyncio.create_task(self._run(head, job))
        return web.json_response({"job_id": body["submission_id"], "submission_id": body["submission_id"]})

    async def _run(self, head: FakeHead, job: FakeJob) -> None:
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
        job = self._head_of(request).jobs.get(request.match_info["id"])
        if job is None:
            return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")
        if job.status in ("SUCCEEDED", "FAILED", "STOPPED"):
            return web.json_response({"stopped": False})
        if job.task:
            job.task.cancel()
        job.status, job.message = "STOPPED", "Job was intentionally stopped."
        return web.json_response({"stopped": True})
