"""Assembles the operator and runs it: `python -m workflow_operator`.

This is the only module that knows every adapter. A replica first serves its probes. Then it waits until the API server
serves the resources that it watches, and until it holds the lease. After that it watches and reconciles until it
receives a signal or loses the lease.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog

from workflow_operator import logs
from workflow_operator.adapters.kube import RAYCLUSTERS, WORKFLOWS, Kube, connected
from workflow_operator.adapters.kuberay import KubeRayClusters
from workflow_operator.adapters.lease import LeaseConfig, run_as_leader
from workflow_operator.adapters.packages import code_package, library_package, package_of
from workflow_operator.adapters.ray_jobs import RayJobs
from workflow_operator.adapters.references import KubeReferences
from workflow_operator.adapters.runs import StoredRuns
from workflow_operator.adapters.submissions import PackageUpload, Sources, Submissions
from workflow_operator.adapters.workflows import KubeWorkflows
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import RunRef
from workflow_operator.deferred_cleanup import run_forever
from workflow_operator.handlers import Scope, Watches
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients
from workflow_operator.probes import Probes
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.settings import Settings, read_settings

RESOURCE_CHECK_SECONDS = 5.0
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
        LeaseLostError: the lease was lost, and another replica may be the leader.
        OperatorError: the API server failed or refused a request while the operator started.
    """
    metrics = Metrics()
    async with Probes(settings.host, settings.port, metrics) as probes, connected(settings.kubeconfig) as kube:
        await _wait_for_resources(kube)
        probes.ready = True

        async def lead() -> None:
            metrics.leader.set(1)
            async with assemble(settings, kube) as components:
                dependencies = Dependencies(components.clients, settings.defaults, kube.clock.now, metrics)
                await _watch_and_reconcile(settings, Reconciler(dependencies), components, kube.clock.now)

        if settings.leader_election:
            config = LeaseConfig(
                settings.operator_namespace, settings.lease_name, settings.identity, settings.lease_seconds
            )
            await run_as_leader(config, kube, lead)
        else:
            await lead()


async def _watch_and_reconcile(
    settings: Settings, reconciler: Reconciler, components: Components, now: Callable[[], float]
) -> None:
    """Watch, reconcile and finish deferred cleanups, until canceled or until one of these tasks fails."""
    watches = Watches(reconciler, Scope(settings.namespaces, settings.kubeconfig))
    tasks = [
        asyncio.create_task(watches.run(), name="watches"),
        asyncio.create_task(run_forever(components.references, components.clients.runs, now), name="deferred cleanup"),
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


async def _wait_for_resources(kube: Kube) -> None:
    """Wait until the API server serves the watched resources, because kopf looks for them only once."""
    for resource, remedy in ((WORKFLOWS, "install the chart rayworkflow-crds"), (RAYCLUSTERS, "install KubeRay")):
        while not await kube.serves(resource):
            log.warning("resource not served", resource=f"{resource.plural}.{resource.group_version}", remedy=remedy)
            await asyncio.sleep(RESOURCE_CHECK_SECONDS)


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
