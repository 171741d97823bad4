"""The watches: kopf watches objects, and each event triggers the Workflows that depend on the object.

kopf keeps the watches open: it reconnects, resumes after the last resource version, and lists all objects again if that
version has expired. It has threads and event loops of its own, because on exit it cancels all tasks in its loop.
It writes nothing: no peering (peers of equal priority pause each other), no annotations, no finalizers, no events.
`reconcile.py` observes, decides and applies in the main loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import kopf
import structlog

from workflow_operator.adapters.kube import PODS, RAYCLUSTERS, WORKFLOWS, watch_session
from workflow_operator.adapters.kuberay import disruption_of
from workflow_operator.core.names import UID_LABEL
from workflow_operator.reconcile import Reconciler
from workflow_operator.watch_index import Key

log = structlog.get_logger(__name__)

CLUSTER_LABEL = "ray.io/cluster"
WATCHER = "rayworkflow-operator"
WATCH_SECONDS = 240
"""The server closes each watch after this time. kopf then opens the next one after the last resource version.

This does not list the objects again. If an event is lost, the Workflow's own timer triggers it.
"""


@dataclass(frozen=True)
class Scope:
    """What is watched.

    Attributes:
        namespaces: the namespaces to watch; empty for the whole cluster.
        kubeconfig: file with the API server's address and credentials; empty for the pod's service account.
    """

    namespaces: tuple[str, ...] = ()
    kubeconfig: str = ""


WATCH_RETRY_SECONDS = 20.0
"""Interval at which a namespace that cannot be watched is watched again."""


class Watches:
    """The watches of one operator. Each namespace of the scope has a thread, or the whole cluster has one.

    A namespace may be missing or being deleted, and then its Role is missing, too. That does not stop the watches of
    the other namespaces.

    Args:
        reconciler: reconciles the Workflows that events trigger.
        scope: what is watched.

    Attributes:
        ready: set by kopf after it has started.
    """

    def __init__(self, reconciler: Reconciler, scope: Scope) -> None:
        self._reconciler = reconciler
        self._scope = scope
        self._stop = threading.Event()
        self._threads: set[asyncio.Future[None]] = set()
        self.ready = threading.Event()

    async def run(self) -> None:
        """Watch until canceled. If the watch of the whole cluster ends otherwise, raise its error."""
        namespaces = self._scope.namespaces
        with ThreadPoolExecutor(max(len(namespaces), 1), thread_name_prefix="watch") as executor:
            try:
                if namespaces:
                    await asyncio.gather(*(self._keep_watching(executor, namespace) for namespace in namespaces))
                else:
                    await self._watch(executor, ())
            finally:
                self._stop.set()
                await asyncio.gather(*self._threads, return_exceptions=True)

    async def _keep_watching(self, executor: Executor, namespace: str) -> None:
        """Watch one namespace until canceled. After an error, begin again."""
        while True:
            try:
                await self._watch(executor, (namespace,))
            except Exception as error:  # noqa: BLE001 - no error in one namespace may stop the others
                remedy = "create the namespace, and upgrade the release so that it gets its Role"
                log.warning("cannot watch a namespace", namespace=namespace, error=str(error), remedy=remedy)
            await asyncio.sleep(WATCH_RETRY_SECONDS)

    async def _watch(self, executor: Executor, namespaces: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        registry = trigger_registry(
            self._reconciler, lambda call: loop.call_soon_threadsafe(call), self._scope.kubeconfig
        )
        watching = loop.run_in_executor(executor, self._in_thread, registry, namespaces)
        self._threads.add(watching)
        await asyncio.shield(watching)
        self._threads.discard(watching)

    def _in_thread(self, registry: kopf.OperatorRegistry, namespaces: tuple[str, ...]) -> None:
        asyncio.run(
            kopf.operator(
                registry=registry,
                settings=watch_settings(),
                standalone=True,
                # Without an identity kopf looks up the user's name, which a container image need not have.
                identity=cast("Any", WATCHER),
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                stop_flag=self._stop,
                ready_flag=self.ready,
            )
        )


def watch_settings() -> kopf.OperatorSettings:
    """Return settings with which kopf only watches: it writes nothing, limits each watch, and filters on the server."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.connect_timeout = 10
    settings.watching.label_selectors["", "v1", "pods"] = "ray.io/node-type=head"
    return settings


def trigger_registry(
    reconciler: Reconciler, in_loop: Callable[[Callable[[], None]], object], kubeconfig: str
) -> kopf.OperatorRegistry:
    """Return the event handlers. Each of them only triggers Workflows.

    Args:
        reconciler: reconciles the Workflows that are triggered.
        in_loop: schedules a function in the reconciler's event loop.
        kubeconfig: file with the API server's address and credentials; empty for the pod's service account.
    """
    registry = kopf.OperatorRegistry()

    def trigger(keys: Callable[[], set[Key]]) -> None:
        def trigger_all() -> None:
            for key in keys():
                reconciler.trigger(key)

        in_loop(trigger_all)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:  # kopf calls it again when the token has expired
        server, session = await watch_session(kubeconfig)
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    @kopf.on.event(*_kind(WORKFLOWS), registry=registry)
    async def workflow_changed(namespace: str | None, name: str, **_: Any) -> None:
        trigger(lambda: {Key(str(namespace), name)})

    @kopf.on.event(*_kind(RAYCLUSTERS), registry=registry)
    async def cluster_changed(namespace: str | None, name: str, labels: kopf.Labels, **_: Any) -> None:
        uid = labels.get(UID_LABEL, "")
        trigger(lambda: reconciler.watch_index.by_cluster(str(namespace), name, uid))

    @kopf.on.event(*_kind(PODS), registry=registry)
    async def pod_changed(namespace: str | None, labels: kopf.Labels, body: kopf.Body, **_: Any) -> None:
        cluster, disruption = labels.get(CLUSTER_LABEL, ""), disruption_of(dict(body))
        uid = str(body["metadata"]["uid"])

        def affected() -> set[Key]:
            if disruption is not None:
                reconciler.disruptions[uid] = disruption
            return reconciler.watch_index.by_pod(str(namespace), cluster)

        trigger(affected)

    return registry


def _kind(resource: Any) -> tuple[str, str, str]:
    group, _, version = resource.group_version.rpartition("/")
    return group, version, resource.plural
