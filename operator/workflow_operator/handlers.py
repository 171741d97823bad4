"""What kopf does here: it watches, and each event wakes the Workflows that it may concern.

kopf keeps the watches alive (re-lists, expired versions, streams gone silent) in a thread and a loop of its own,
because at its end it cancels every task of its loop that it does not know. It writes nothing: no peering (equal peers
freeze each other), no annotations, no finalizers, no events. Observing, deciding and applying is
`reconcile.py`'s, in the main loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import kopf

from workflow_operator.adapters.kube import PODS, RAYCLUSTERS, WORKFLOWS, watch_session
from workflow_operator.core.names import UID_LABEL
from workflow_operator.reconcile import Reconciler
from workflow_operator.watch_index import Key

CLUSTER_LABEL = "ray.io/cluster"
WATCHER = "rayworkflow-operator"
RELIST_SECONDS = 240
"""A watch is ended by the server after this time, and all objects are listed, and so looked at, again."""


@dataclass(frozen=True)
class Scope:
    """What is watched.

    Attributes:
        namespaces: names; none for the whole cluster.
        kubeconfig: file with the API server's address and credentials; empty in a pod.
    """

    namespaces: tuple[str, ...] = ()
    kubeconfig: str = ""


class Watches:
    """The watches of one operator, in a thread of their own.

    Args:
        reconciler: whose Workflows are woken.
        scope: what is watched.
    """

    def __init__(self, reconciler: Reconciler, scope: Scope) -> None:
        self._reconciler = reconciler
        self._scope = scope
        self._stop = threading.Event()
        self.ready = threading.Event()

    async def run(self) -> None:
        """Watch until canceled; raises what ended the watches otherwise."""
        loop = asyncio.get_running_loop()
        registry = wake_registry(self._reconciler, lambda call: loop.call_soon_threadsafe(call), self._scope.kubeconfig)
        watching = asyncio.create_task(asyncio.to_thread(self._in_thread, registry))
        try:
            await asyncio.shield(watching)
        finally:
            self._stop.set()
            await asyncio.gather(watching, return_exceptions=True)

    def _in_thread(self, registry: kopf.OperatorRegistry) -> None:
        asyncio.run(
            kopf.operator(
                registry=registry,
                settings=watch_settings(),
                standalone=True,
                identity=cast("Any", WATCHER),  # or kopf asks for the user's name, which an image need not know
                clusterwide=not self._scope.namespaces,
                namespaces=list(self._scope.namespaces),
                stop_flag=self._stop,
                ready_flag=self.ready,
            )
        )


def watch_settings() -> kopf.OperatorSettings:
    """kopf as a mere watcher: selectors on the server's side, no stream trusted for long, nothing written."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = RELIST_SECONDS
    settings.watching.client_timeout = RELIST_SECONDS + 30
    settings.watching.connect_timeout = 10
    settings.watching.label_selectors["", "v1", "pods"] = "ray.io/node-type=head"
    return settings


def wake_registry(
    reconciler: Reconciler, in_loop: Callable[[Callable[[], None]], object], kubeconfig: str
) -> kopf.OperatorRegistry:
    """The handlers: each does nothing but wake.

    Args:
        reconciler: whom to wake.
        in_loop: has a function called in the reconciler's loop.
        kubeconfig: see `Scope`.
    """
    registry = kopf.OperatorRegistry()

    def wake(keys: Callable[[], set[Key]]) -> None:
        def each() -> None:
            for key in keys():
                reconciler.wake(key)

        in_loop(each)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:  # asked again when the token has expired
        server, session = await watch_session(kubeconfig)
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    @kopf.on.event(*_kind(WORKFLOWS), registry=registry)
    async def workflow_changed(namespace: str | None, name: str, **_: Any) -> None:
        wake(lambda: {Key(str(namespace), name)})

    @kopf.on.event(*_kind(RAYCLUSTERS), registry=registry)
    async def cluster_changed(namespace: str | None, name: str, labels: kopf.Labels, **_: Any) -> None:
        uid = labels.get(UID_LABEL, "")
        wake(lambda: reconciler.interests.of_cluster(str(namespace), name, uid))

    @kopf.on.event(*_kind(PODS), registry=registry)
    async def pod_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        cluster = labels.get(CLUSTER_LABEL, "")
        wake(lambda: reconciler.interests.of_pod(str(namespace), cluster))

    return registry


def _kind(resource: Any) -> tuple[str, str, str]:
    group, _, version = resource.group_version.rpartition("/")
    return group, version, resource.plural
