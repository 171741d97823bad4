"""The HTTP endpoints for the kubelet and for Prometheus: /healthz, /readyz and /metrics."""

from __future__ import annotations

from types import TracebackType

from aiohttp import web

from workflow_operator.metrics import Metrics


class Probes:
    """An HTTP server for probes and metrics. It runs inside an `async with` block.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 selects a free one.
        metrics: the metrics to serve at /metrics.

    Attributes:
        ready: the answer of /readyz. A replica that waits for the lease is ready too.
        port: the port that the server listens on.
    """

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self.ready = False
        self.port = port
        self._host = host
        self._metrics = metrics
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
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

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})
