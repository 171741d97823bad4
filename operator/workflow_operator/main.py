"""Assembles the operator and runs it: `python -m workflow_operator`.

This is the only module that knows every adapter. A replica first serves its probes. Then it waits until the API server
serves the resources that it watches, and until it holds the lease. After that it watches and reconciles. If it loses
the lease, it discards everything that it assembled, and waits for the lease again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog

from workflow_operator import logs
from workflow_operator.adapters.kube import Kube, connected
from workflow_operator.adapters.kuberay import KubeRayClusters
from workflow_operator.adapters.lease import LeaseConfig
from workflow_operator.adapters.packages import code_package, library_package, package_of
from workflow_operator.adapters.ray_jobs import RayJobs
from workflow_operator.adapters.references import KubeReferences
from workflow_operator.adapters.runs import StoredRuns
from workflow_operator.adapters.submissions import PackageUpload, Sources, Submissions
from workflow_operator.adapters.workflows import KubeWorkflows
from workflow_operator.api.status import HeadIdentity
from workflow_operator.claims import Claims
from workflow_operator.core.actions import RunRef
from workflow_operator.deferred_cleanup import run_forever
from workflow_operator.handlers import Scope, Watches
from workflow_operator.leadership import Leadership, run_as_leader
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients
from workflow_operator.probes import Probes
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.resources import wait_for_resources
from workflow_operator.settings import Settings, read_settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Components:
    """The operator's adapters.

    Attributes:
        clients: the ports of the core, implemented on real systems.
        references: the same adapter as `clients.references`; it also lists deferred cleanups.
        runs: the same adapter as `clients.runs`; it must be closed.
    """

    clients: Clients
    references: KubeReferences
    runs: StoredRuns


@asynccontextmanager
async def assemble(settings: Settings, kube: Kube) -> AsyncIterator[Components]:
    """Create all adapters. What one adapter needs from another is passed to it as a function."""
    references = KubeReferences(kube, _pack, settings.operator_namespace)
    runs = StoredRuns(references.credentials, references.code)
    clusters = KubeRayClusters(kube)
    library = _LibraryPackage(settings)

    async def code(namespace: str, run: RunRef, sha256: str) -> PackageUpload:
        package = package_of(await runs.code(namespace, run, sha256))
        return package.name, package.data

    async def identity(namespace: str, cluster: str) -> HeadIdentity | None:
        view = await clusters.named(namespace, cluster)
        return view.head.identity if view and view.head else None

    async with aiohttp.ClientSession() as session:
        sources = Sources(references.token, library.package, code, identity)
        jobs = Submissions(RayJobs(session), sources, settings.head_address)
        try:
            yield Components(Clients(KubeWorkflows(kube), clusters, jobs, runs, references), references, runs)
        finally:
            runs.close()


class _LibraryPackage:
    """The library's package. It is built on first use, because that takes about a second."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.library
        self._built: PackageUpload | None = None
        self._lock = asyncio.Lock()

    async def package(self) -> PackageUpload:
        async with self._lock:
            if self._built is None:
                package = await asyncio.to_thread(library_package, self._folder)
                self._built = package.name, package.data
            return self._built


def _pack(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    package = code_package(files)
    return package.data, package.sha256


async def serve(settings: Settings) -> None:
    """Run the operator until it is canceled.

    Args:
        settings: the operator's settings.

    Raises:
        Exception: a bug, or an error that the watches could not recover from.
    """
    metrics = Metrics()
    async with Probes(settings.host, settings.port, metrics) as probes, connected(settings.kubeconfig) as kube:
        await wait_for_resources(kube, probes.wait_for)
        probes.ready = True
        leadership = Leadership(time.monotonic)

        async def lead() -> None:
            metrics.leader.set(1)
            try:
                await _lead(settings, kube.guarded(leadership.check) if settings.leader_election else kube, probes)
            finally:
                metrics.stop_leading()
                probes.report_others({})

        if settings.leader_election:
            config = LeaseConfig(
                settings.operator_namespace, settings.lease_name, settings.identity, settings.lease_seconds
            )
            timeout = settings.lease_seconds / 3
            await run_as_leader(config, lambda: connected(settings.kubeconfig, timeout=timeout), lead, leadership)
        else:
            await lead()


async def _lead(settings: Settings, kube: Kube, probes: Probes) -> None:
    """Assemble everything, then watch, reconcile and finish deferred cleanups, until canceled or until a part fails."""
    installation = f"{settings.operator_namespace}/{settings.lease_name}"
    claims = Claims(kube, installation, time.monotonic, probes.report_others)
    async with assemble(settings, kube) as components:
        dependencies = Dependencies(
            components.clients,
            settings.defaults,
            kube.clock.now,
            probes.metrics,
            other_installation=claims.other_installation,
        )
        reconciler = Reconciler(dependencies)
        watches = Watches(reconciler, Scope(settings.namespaces, settings.kubeconfig))
        tasks = [
            asyncio.create_task(watches.run(), name="watches"),
            asyncio.create_task(
                run_forever(components.references, components.clients.runs, kube.clock.now), name="deferred cleanup"
            ),
            asyncio.create_task(claims.run(settings.namespaces), name="claims"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await reconciler.stop()


async def _serve_until_signal(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order."""
    serving = asyncio.create_task(serve(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        log.info("stopped")


def main() -> None:
    """Run the operator with the settings from the environment and the command line."""
    settings = read_settings(os.environ, sys.argv[1:])
    logs.set_up(settings.log_level, settings.log_format)
    asyncio.run(_serve_until_signal(settings))
