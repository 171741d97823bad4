"""The HTTP endpoints for the kubelet and for Prometheus: /healthz, /readyz and /metrics."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from types import TracebackType

from aiohttp import web

from workflow_operator.metrics import Metrics


class Probes:
    """An HTTP server for probes and metrics. It runs inside an `async with` block.

    Args:
        host: the address to listen on; empty for all addresses of IPv4 and IPv6.
        port: the port to listen on; 0 selects a free one.
        metrics: the metrics to serve at /metrics.

    Attributes:
        ready: the answer of /readyz. A replica that waits for the lease is ready too.
        port: the port that the server listens on.
        metrics: the metrics that are served.
    """

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self.ready = False
        self.port = port
        self.metrics = metrics
        self._host = host
        self._waits_for = ""
        self._others: Mapping[str, str] = {}
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Probes:
        await self._runner.setup()
        await web.SockSite(self._runner, listening(self._host, self.port)).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def wait_for(self, what: str) -> None:
        """Show in /readyz what the replica waits for."""
        self._waits_for = what

    def report_others(self, others: Mapping[str, str]) -> None:
        """Show in /readyz and in the metrics which namespaces other installations serve.

        Args:
            others: the name of the other installation for each of these namespaces.
        """
        self._others = dict(others)
        self.metrics.foreign_namespaces.set(len(others))

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        if not self.ready:
            return web.Response(status=503, text=self._waits_for or "starting")
        others = [f"namespace {name} is served by installation {other}" for name, other in self._others.items()]
        return web.Response(text="\n".join(["ready", *others]))

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address, or on all addresses of IPv4 and IPv6 if `host` is empty.

    Args:
        host: the address, for example 0.0.0.0 or ::1.
        port: the port; 0 selects a free one.

    Raises:
        OSError: the address cannot be used, or the port is in use.
    """
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError) as error:  # the kernel has no IPv6
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise
        return socket.create_server(("", port))
