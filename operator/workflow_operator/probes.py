"""What the kubelet and Prometheus ask over HTTP: /healthz, /readyz and /metrics."""

from __future__ import annotations

from types import TracebackType

from aiohttp import web

from workflow_operator.metrics import Metrics


class Probes:
    """A small HTTP server, alive inside an `async with` block.

    Args:
        host: where it listens.
        port: where it listens; 0: any free one.
        metrics: what is served under /metrics.

    Attributes:
        ready: what /readyz answers; a replica that waits for the lease is ready too.
        port: where it listens.
    """

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self.ready = False
        self.port = port
        self._host = host
        self._metrics = metrics
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposed)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Probes:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 503, text="ready" if self.ready else "starting")

    async def _exposed(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposed(), headers={"Content-Type": "text/plain; version=0.0.4"})
