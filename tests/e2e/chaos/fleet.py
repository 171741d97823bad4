"""The Workflows that meet the faults, and the verdict about each of them after it ended."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.e2e.chaos.clusters import Deletion
from tests.e2e.chaos.schedule import FATAL, Kind
from tests.e2e.histories import WatchEvent
from tests.e2e.namespace import TERMINAL, WorkflowNamespace, ray_cluster_spec
from tests.support import checker
from tests.support.stored import BrokenRuleError, Objects
from workflow_operator.api.status import Phase

WIDTH: Final = 3
LONG_GRACE_SECONDS: Final = 130
"""Longer than a head is frozen, so that it continues after its RayCluster was deleted."""

RECOVERY: Final = {"maxResumes": 100, "backoff": {"initialSeconds": 1, "maxSeconds": 20}}
SHARED: Final = {"selector": {"matchLabels": {"team": "chaos"}}}
SHARED_CLUSTERS: Final = ("shared-a", "shared-b")
_MARGIN_SECONDS: Final = 3.0
"""The two watches are separate, so their times are compared with a margin."""


@dataclass
class Fleet:
    """Workflows with fan-outs, on clusters of their own and on shared clusters.

    Attributes:
        namespace: where they run.
        waves: the number of fan-outs of each Workflow.
        names: all Workflows that were created.
    """

    namespace: WorkflowNamespace
    waves: int
    names: list[str] = field(default_factory=list)

    def share_clusters(self) -> None:
        """Create the clusters that some of the Workflows select."""
        for name in SHARED_CLUSTERS:
            self.namespace.ray_cluster(name, {"team": "chaos"})

    def add(self) -> None:
        """Create one more Workflow. The kinds of its cluster alternate."""
        number = len(self.names)
        name = f"chaos-{number}"
        cluster = [SHARED, _template(workers=1), SHARED, _template(grace=LONG_GRACE_SECONDS), _template()][number % 5]
        args = {"marks_url": self.namespace.bucket.marks_url(self.namespace.name, name), "count": self.waves}
        self.namespace.create(
            name,
            "flows:waves",
            args={**args, "width": WIDTH},
            cluster=cluster,
            recovery=RECOVERY,
            failureDetection={"unreachableSeconds": 30},
        )
        self.names.append(name)

    def live(self) -> list[str]:
        """Return the Workflows that have not ended."""
        return [name for name in self.names if self.last(name) is None or not _ended(self.last(name))]

    def last(self, name: str) -> WatchEvent | None:
        """Return the last watch event of a Workflow."""
        history = self.namespace.histories.of(name)
        return history[-1] if history else None

    def steps(self) -> int:
        """Return the number of committed steps of all Workflows, by their status."""
        events = filter(None, map(self.last, self.names))
        return sum(event.state.steps.succeeded for event in events)

    def failures(self) -> Counter[str]:
        """Return how many attempts failed for each reason."""
        seen = {
            (name, failure.time, failure.reason)
            for name in self.names
            for event in self.namespace.histories.of(name)
            if (failure := event.state.last_failure) is not None
        }
        return Counter(reason for _, _, reason in seen)


def expected(waves: int) -> str:
    """Return the result of a Workflow with this number of fan-outs."""
    joined: tuple[str, ...] = ()
    for wave in range(waves):
        parts = [_digest(f"wave-{wave}-{number}", *joined) for number in range(WIDTH)]
        joined = (_digest(f"join-{wave}", *parts),)
    return joined[0]


def problems_of(fleet: Fleet, name: str, objects: Objects) -> list[str]:
    """Return what is wrong with a Workflow and its run.

    Args:
        fleet: all Workflows.
        name: the Workflow.
        objects: the objects of the namespace's store, read without the library.
    """
    event = fleet.last(name)
    if event is None or not _ended(event):
        return [f"{name} is stuck in phase {event.state.phase if event else None}"]
    state = event.state
    if state.phase is not Phase.SUCCEEDED:
        return [f"{name} is lost: {state.phase}, {state.condition('Ready')}"]
    found = [] if expected(fleet.waves) in str(state.result) else [f"{name} has the wrong result {state.result!r}"]
    try:
        history = checker.check(objects, state.workflow_id)
    except BrokenRuleError as broken:
        return [*found, f"{name}: {broken}"]
    steps = fleet.waves * (WIDTH + 1)
    if (history.end, len(history.outcomes)) != ("SUCCESSFUL", steps):
        found.append(f"{name}: the log has status {history.end} and {len(history.outcomes)} of {steps} outcomes")
    return found


def harmed(fleet: Fleet, deletions: Mapping[str, Deletion], hits: Mapping[str, list[Kind]]) -> list[str]:
    """Return the clusters that were deleted although their head was healthy and their Workflow had not ended."""
    found = []
    for deletion in deletions.values():
        ended = deletion.workflow in fleet.names and _ended_before(fleet, deletion)
        if deletion.workflow and not (ended or deletion.head or FATAL & set(hits.get(deletion.cluster, ()))):
            last = fleet.last(deletion.workflow)
            why = last.state.last_failure if last else None
            found.append(f"{deletion.cluster} was healthy and was deleted; hit by {hits.get(deletion.cluster)}: {why}")
    return found


def _ended_before(fleet: Fleet, deletion: Deletion) -> bool:
    history = fleet.namespace.histories.of(deletion.workflow)
    return any(_ended(event) and event.at <= deletion.at + _MARGIN_SECONDS for event in history)


def _ended(event: WatchEvent | None) -> bool:
    return event is not None and event.state.phase in TERMINAL


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _template(workers: int = 0, grace: int = 2) -> dict[str, Any]:
    """Return `spec.cluster` with a RayCluster whose steps run on the workers, or on the head if there are none."""
    spec = ray_cluster_spec()
    spec["headGroupSpec"]["template"]["spec"]["terminationGracePeriodSeconds"] = grace
    if workers:
        bounds = {"replicas": workers, "minReplicas": workers, "maxReplicas": workers}
        spec["workerGroupSpecs"] = [{"groupName": "workers", **bounds, **spec["headGroupSpec"]}]
        spec["headGroupSpec"] = {**spec["headGroupSpec"], "rayStartParams": {"num-cpus": "0"}}
    return {"template": {"spec": spec}}
