"""An index of Workflows by the objects they depend on. An event of a pod or a RayCluster triggers these Workflows.

`reconcile.py` updates it and `handlers.py` reads it. It only saves time: a Workflow that is missing in the index is
reconciled by its own timer.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import WorkflowState


class Key(NamedTuple):
    """Namespace and name of a Workflow."""

    namespace: str
    name: str


class WatchIndex:
    """Finds the Workflows that depend on a RayCluster or on its pods."""

    def __init__(self) -> None:
        self._watched: dict[Key, tuple[tuple[str, ...], ...]] = {}
        self._keys: dict[tuple[str, ...], set[Key]] = defaultdict(set)

    def update(self, key: Key, uid: str, spec: WorkflowSpec | None, state: WorkflowState) -> None:
        """Record what a Workflow depends on.

        It depends on the RayClusters with its uid, and on the one that its status names. If its status names none, it
        depends on every RayCluster that its selector can match.
        """
        watched: list[tuple[str, ...]] = [("uid", uid)]
        if state.cluster is not None:
            watched.append(("cluster", key.namespace, state.cluster.name))
        elif spec is not None and spec.cluster.selector is not None:
            watched.append(("selector", key.namespace))
        if self._watched.get(key) == tuple(watched):
            return
        self.remove(key)
        self._watched[key] = tuple(watched)
        for entry in watched:
            self._keys[entry].add(key)

    def remove(self, key: Key) -> None:
        """Remove a Workflow that no longer exists."""
        for entry in self._watched.pop(key, ()):
            self._keys[entry].discard(key)
            if not self._keys[entry]:
                del self._keys[entry]

    def by_cluster(self, namespace: str, name: str, uid: str) -> set[Key]:
        """Return the Workflows that depend on a RayCluster.

        Args:
            namespace: the namespace of the RayCluster.
            name: the name of the RayCluster.
            uid: the Workflow uid in its label, or empty.
        """
        entries = (("uid", uid), ("cluster", namespace, name), ("selector", namespace))
        return set().union(*(self._keys.get(entry, set()) for entry in entries))

    def by_pod(self, namespace: str, cluster: str) -> set[Key]:
        """Return the Workflows that depend on the pods of this RayCluster."""
        return set(self._keys.get(("cluster", namespace, cluster), set()))
