"""Puts the operator together and runs it: `python -m workflow_operator`.

The one place that knows every adapter. A replica first serves its probes, then waits for the resources it watches, then
for the lease; from there on it watches and reconciles until it is told to stop or the lease is lost.
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
from workflow_operator.adapters.kube import RAYCLUSTERS, WORKFLOWS, Kube, connected
from workflow_operator.adapters.kuberay import KubeRayClusters
from workflow_operator.adapters.lease import Terms, lead
from workflow_operator.adapters.packages import code_package, library_package, package_of
from workflow_operator.adapters.ray_jobs import RayJobs
from workflow_operator.adapters.references import KubeReferences
from workflow_operator.adapters.runs import StoredRuns
from workflow_operator.adapters.submissions import Named, Sources, Submissions
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

MISSING_SECONDS = 5.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Parts:
    """What the operator is made of.

    Attributes:
        world: the ports, on real systems.
        references: the one that also knows the debts.
        runs: the one that must be closed.
    """

    clients: Clients
    references: KubeReferences
    runs: StoredRuns


@asynccontextmanager
async def assembled(settings: Settings, kube: Kube) -> AsyncIterator[Parts]:
    """All adapters, each handed what it needs of the others as functions."""
    references = KubeReferences(kube, _pack, settings.home)
    runs = StoredRuns(references.credentials, references.code)
    clusters = KubeRayClusters(kube)
    library = _Library(settings)

    async def code(namespace: str, run: RunRef, sha256: str) -> Named:
        package = package_of(await runs.code(namespace, run, sha256))
        return package.name, package.data

    async def identity(namespace: str, cluster: str) -> HeadIdentity | None:
        view = await clusters.named(namespace, cluster)
        return view.head.identity if view and view.head else None

    async with aiohttp.ClientSession() as session:
        sources = Sources(references.token, library.package, code, identity)
        jobs = Submissions(RayJobs(session), sources, settings.head_address)
        try:
            yield Parts(Clients(KubeWorkflows(kube), clusters, jobs, runs, references), references, runs)
        finally:
            runs.close()


class _Library:
    """The library's package, made when it is first needed: that takes a second."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.library
        self._made: Named | None = None
        self._turn = asyncio.Lock()

    async def package(self) -> Named:
        async with self._turn:
            if self._made is None:
                package = await asyncio.to_thread(library_package, self._folder)
                self._made = package.name, package.data
            return self._made


def _pack(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    package = code_package(files)
    return package.data, package.sha256


async def serve(settings: Settings) -> None:
    """Run the operator until it is canceled.

    Args:
        settings: what it is told.

    Raises:
        LeaseLost: another replica may work now.
        OperatorError: what it cannot go on without failed for good.
    """
    metrics = Metrics()
    async with Probes(settings.host, settings.port, metrics) as probes, connected(settings.kubeconfig) as kube:
        await _until_installed(kube)
        probes.ready = True

        async def work() -> None:
            metrics.leader.set(1)
            async with assembled(settings, kube) as parts:
                setting = Dependencies(parts.clients, settings.defaults, time.time, metrics)
                await _work(settings, Reconciler(setting), parts)

        if settings.leader_election:
            await lead(Terms(settings.home, settings.lease, settings.identity, settings.lease_seconds), kube, work)
        else:
            await work()


async def _work(settings: Settings, reconciler: Reconciler, parts: Parts) -> None:
    """Watch, reconcile and pay debts, until canceled or until one of them fails."""
    watches = Watches(reconciler, Scope(settings.namespaces, settings.kubeconfig))
    tasks = [
        asyncio.create_task(watches.run(), name="watches"),
        asyncio.create_task(run_forever(parts.references, parts.clients.runs), name="debts"),
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


async def _until_installed(kube: Kube) -> None:
    """Wait for the resources that are watched; kopf looks for them only once."""
    for resource, remedy in ((WORKFLOWS, "install the chart rayworkflow-crds"), (RAYCLUSTERS, "install KubeRay")):
        while not await kube.serves(resource):
            log.warning("resource not served", resource=f"{resource.plural}.{resource.group_version}", remedy=remedy)
            await asyncio.sleep(MISSING_SECONDS)


async def _until_told(settings: Settings) -> None:
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
    """The program."""
    settings = read_settings(os.environ, sys.argv[1:])
    logs.set_up(settings.log_level, settings.log_format)
    asyncio.run(_until_told(settings))
