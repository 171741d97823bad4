"""Which Workflow is concerned by which foreign object: what an event of a pod or a RayCluster wakes.

Kept by `reconcile.py`, asked by `handlers.py`. Only a hint: a Workflow that is missing here is found by its own timer.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import WorkflowState


class Key(NamedTuple):
    """Names a Workflow."""

    namespace: str
    name: str


class WatchIndex:
    """An index of Workflows by what they look at."""

    def __init__(self) -> None:
        self._noted: dict[Key, tuple[tuple[str, ...], ...]] = {}
        self._keys: dict[tuple[str, ...], set[Key]] = defaultdict(set)

    def note(self, key: Key, uid: str, spec: WorkflowSpec | None, state: WorkflowState) -> None:
        """A Workflow looks at this now: clusters with its uid, the one it names, or any that its selector may match."""
        wanted: list[tuple[str, ...]] = [("uid", uid)]
        if state.cluster is not None:
            wanted.append(("cluster", key.namespace, state.cluster.name))
        elif spec is not None and spec.cluster.selector is not None:
            wanted.append(("selector", key.namespace))
        if self._noted.get(key) == tuple(wanted):
            return
        self.forget(key)
        self._noted[key] = tuple(wanted)
        for one in wanted:
            self._keys[one].add(key)

    def forget(self, key: Key) -> None:
        """The Workflow is gone."""
        for one in self._noted.pop(key, ()):
            self._keys[one].discard(key)
            if not self._keys[one]:
                del self._keys[one]

    def of_cluster(self, namespace: str, name: str, uid: str) -> set[Key]:
        """Who is concerned by a RayCluster.

        Args:
            namespace, name: the RayCluster.
            uid: of the Workflow in its label, or empty.
        """
        asked = (("uid", uid), ("cluster", namespace, name), ("selector", namespace))
        return set().union(*(self._keys.get(one, set()) for one in asked))

    def of_pod(self, namespace: str, cluster: str) -> set[Key]:
        """Who is concerned by a pod of this RayCluster."""
        return set(self._keys.get(("cluster", namespace, cluster), set()))
