"""The Workflows that meet the faults, and the verdict about each of them after it ended."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
"""Longer than a head is frozen. So the head continues after its RayCluster was deleted."""

RECOVERY: Final = {"maxResumes": 100, "backoff": {"initialSeconds": 1, "maxSeconds": 20}}
SHARED: Final = {"selector": {"matchLabels": {"team": "chaos"}}}
_MARGIN_SECONDS: Final = 3.0
"""The two watches are separate, so their times are compared with a margin."""


@dataclass
class Fleet:
    """Workflows with fan-outs, on clusters of their own and on shared clusters.

    Attributes:
        namespace: where they run.
        waves: the number of fan-outs of each Workflow.
        step_seconds: how long each step takes.
        unreachable_seconds: how long the operator waits for the reply of a head.
        own: the part of the Workflows that have a cluster of their own, from 0 to 1.
        names: all Workflows that were created.
    """

    namespace: WorkflowNamespace
    waves: int
    step_seconds: float
    unreachable_seconds: int
    own: float
    names: list[str] = field(default_factory=list)

    def share_clusters(self, count: int) -> None:
        """Create the clusters that some of the Workflows select."""
        for number in range(count):
            self.namespace.ray_cluster(f"shared-{number}", {"team": "chaos"})

    def add(self) -> None:
        """Create one more Workflow. The kinds of clusters alternate."""
        number = len(self.names)
        name = f"chaos-{number}"
        with_own = int((number + 1) * self.own)
        has_own = with_own > int(number * self.own)
        kinds = (_template(workers=1), _template(grace=LONG_GRACE_SECONDS), _template())
        cluster = kinds[with_own % len(kinds)] if has_own else SHARED
        args = {"marks_url": self.namespace.bucket.marks_url(self.namespace.name, name), "count": self.waves}
        self.namespace.create(
            name,
            "flows:waves",
            args={**args, "width": WIDTH, "seconds": self.step_seconds},
            cluster=cluster,
            recovery=RECOVERY,
            failureDetection={"unreachableSeconds": self.unreachable_seconds},
        )
        self.names.append(name)

    def live(self) -> list[str]:
        """Return the Workflows that have not ended."""
        return [name for name in self.names if self.last(name) is None or not _ended(self.last(name))]

    def booting(self) -> list[str]:
        """Return the Workflows that have not ended, and of which no step is committed yet."""
        return [name for name in self.live() if (last := self.last(name)) is None or not last.state.steps.succeeded]

    def last(self, name: str) -> WatchEvent | None:
        """Return the last watch event of a Workflow."""
        history = self.namespace.histories.of(name)
        return history[-1] if history else None

    def ended(self) -> dict[str, float]:
        """Return when each Workflow ended, in seconds since 1970."""
        events = ((name, event) for name in self.names for event in reversed(self.namespace.histories.of(name)))
        return {name: event.at for name, event in events if _ended(event)}

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


def harmed(
    ended: Mapping[str, float], deletions: Mapping[str, Deletion], hits: Mapping[str, Sequence[Kind]]
) -> list[Deletion]:
    """Return the deletions of clusters whose head was healthy and whose Workflow had not ended.

    Args:
        ended: when each Workflow ended, in seconds since 1970.
        deletions: by the name of the RayCluster.
        hits: the faults that each RayCluster was hit by.
    """
    return [
        deletion
        for deletion in deletions.values()
        if deletion.workflow
        and not deletion.head
        and not FATAL & set(hits.get(deletion.cluster, ()))
        and ended.get(deletion.workflow, math.inf) > deletion.at + _MARGIN_SECONDS
    ]


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
