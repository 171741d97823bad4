"""Many Workflows under a schedule of faults, and what must hold afterwards.

Nothing is lost, nothing is committed twice, nothing is stuck, no cluster is left over, and no healthy cluster was
deleted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dev.processes import poll
from dev.release import BUCKET
from tests.e2e.chaos import fleet as fleets
from tests.e2e.chaos.clusters import ClusterWatch
from tests.e2e.chaos.faults import Injector
from tests.e2e.chaos.fleet import Fleet
from tests.e2e.chaos.schedule import schedule
from tests.e2e.namespace import WorkflowNamespace
from tests.support.stored import in_bucket

BOOT_SECONDS = 300.0
MAX_BOOTING = 4
"""Workflows that begin at the same time. If more heads boot on two cores, Ray's own deadlines end them."""
SETTLE_SECONDS = 900.0
NO_CLUSTER_SECONDS = 180.0


@dataclass(frozen=True)
class Plan:
    """The size of a storm.

    Attributes:
        seed: decides the schedule.
        workflows: how many Workflows are live at the same time, until the last fault.
        waves: the number of fan-outs of each Workflow.
        seconds: the time from the first step of every Workflow to the last fault.
        pause: the mean time between two faults, in seconds.
        frozen_seconds: how long a head is frozen. Within it, heartbeats expire after 30 s and a run is taken over.
        shared_clusters: how many clusters the Workflows without a cluster of their own select.
        own_clusters: how many of the live Workflows have a cluster of their own.
        step_seconds: how long each step takes. So it decides how many steps run at the same time.
    """

    seed: int
    workflows: int
    waves: int
    seconds: float
    pause: float
    frozen_seconds: float = 100.0
    shared_clusters: int = 2
    own_clusters: int = 6
    step_seconds: float = 5.0


@dataclass(frozen=True)
class Report:
    """The result of a storm.

    Attributes:
        problems: what must not happen and did.
        counts: what happened, by name.
    """

    problems: list[str]
    counts: dict[str, int]

    def __str__(self) -> str:
        return "\n".join([*self.problems, *(f"{name:60} {count:6}" for name, count in self.counts.items())])


def run(namespace: WorkflowNamespace, plan: Plan, print_line: Callable[[str], None]) -> Report:
    """Run a storm in a namespace that no other test uses.

    Args:
        namespace: where the Workflows run.
        plan: the size of the storm.
        print_line: receives a line for each fault, and progress.
    """
    own = plan.own_clusters / plan.workflows
    fleet = Fleet(namespace, plan.waves, plan.step_seconds, unreachable_seconds=int(plan.frozen_seconds / 4), own=own)
    injector = Injector(namespace, plan.frozen_seconds)
    with ClusterWatch(namespace.kubectl, namespace.name).watching() as watch:
        fleet.share_clusters(plan.shared_clusters)
        for _ in range(plan.workflows):
            fleet.add()
            _until_booting(fleet, MAX_BOOTING - 1)
        _until_booting(fleet, 0)
        _inject(fleet, injector, plan, print_line)
        injector.settle()
        ended = poll(lambda: not fleet.live(), SETTLE_SECONDS)
        print_line(f"all Workflows ended: {ended}; {fleet.steps()} steps")
        left = _left_over(namespace)
    objects = in_bucket(namespace.bucket.client(), BUCKET, namespace.name)
    problems = [problem for name in fleet.names for problem in fleets.problems_of(fleet, name, objects)]
    for deletion in fleets.harmed(fleet.ended(), watch.deletions, injector.hits):
        last = fleet.last(deletion.workflow)
        why = last.state.last_failure if last is not None else None
        problems.append(f"{deletion} hit a healthy head; faults: {injector.hits.get(deletion.cluster)}; {why}")
    problems += [f"RayCluster {name} is left over" for name in left]
    if problems:
        print_line(namespace.release.operator_log(400))
    return Report(problems, _counts(fleet, injector, watch))


def _until_booting(fleet: Fleet, most: int) -> None:
    """Wait until at most this many Workflows have not begun."""
    begun = poll(lambda: len(fleet.booting()) <= most, BOOT_SECONDS)
    assert begun, f"did not begin within {BOOT_SECONDS:.0f} s: {fleet.booting()}"


def _inject(fleet: Fleet, injector: Injector, plan: Plan, print_line: Callable[[str], None]) -> None:
    """Carry out the schedule. While it lasts, each Workflow that ends is followed by another one."""
    began = time.monotonic()
    for fault in schedule(plan.seed, plan.seconds, plan.pause):
        poll(lambda due=fault.after: time.monotonic() - began >= due, plan.seconds)  # type: ignore[misc]
        hit = injector.carry_out(fault)
        live = fleet.live()
        print_line(f"{time.monotonic() - began:6.0f} s  {fault.kind}: {hit or 'no target'}; {len(live)} live")
        for _ in range(min(plan.workflows - len(live), MAX_BOOTING - len(fleet.booting()))):
            fleet.add()


def _left_over(namespace: WorkflowNamespace) -> list[str]:
    """Return the RayClusters of Workflows that still exist after a time in which they should have gone."""

    def names() -> list[str]:
        found = namespace.kubectl.objects("rayclusters", namespace.name, "rayworkflow.dev/workflow")
        return [each["metadata"]["name"] for each in found]

    return [] if poll(lambda: not names(), NO_CLUSTER_SECONDS) else names()


def _counts(fleet: Fleet, injector: Injector, watch: ClusterWatch) -> dict[str, int]:
    states = [event.state for event in map(fleet.last, fleet.names) if event is not None]
    phases = Counter(str(state.phase) for state in states)
    return {
        "Workflows": len(fleet.names),
        **{f"  {phase}": count for phase, count in sorted(phases.items())},
        "committed steps": fleet.steps(),
        "resumes": sum(state.resumes.total for state in states),
        "RayClusters": len(watch.created),
        **{f"fault: {kind}": count for kind, count in sorted(injector.counts.items())},
        **{f"failed attempt: {reason}": count for reason, count in sorted(fleet.failures().items())},
    }
