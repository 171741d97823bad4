"""Between each two reads of a round, the world changes. The decision must be safe: no failure, no healthy cluster lost.

Each case runs a script up to a chosen read of a chosen round, and changes the world directly before that read. Then
the script ends without faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import pytest

from tests.support.operator_simulation.faults import step_fails
from tests.support.operator_simulation.world import OperatorProcess, World
from tests.unit.operator_simulation.scripts import CODED_SPEC, Happening, describe, life_of, live_through, thinned, when
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import Phase


def run_ends(world: World) -> None:
    """The manager commits the last steps and SUCCESSFUL, and the driver exits."""
    for head in world.heads.values():
        for run in list(head.driven):
            if head.owns(run):
                run.commits += [run.epoch] * (run.steps - len(run.commits))
                run.end(WorkflowStatus.SUCCESSFUL, "", world.now())
                for job in head.jobs.values():
                    job.exit(0)


def run_fails(world: World) -> None:
    step_fails(world)
    for head in world.heads.values():
        for job in head.jobs.values():
            job.exit(0)


def head_dies(world: World) -> None:
    for cluster in world.api.list("rayclusters", None, {"rayworkflow.dev/workflow": "trip"}):
        world.kuberay.lose_head(cluster["metadata"]["name"], "deleted")


def cluster_deleted(world: World) -> None:
    for cluster in world.api.list("rayclusters", None, {"rayworkflow.dev/workflow": "trip"}):
        world.api.delete("user", "rayclusters", world.namespace, cluster["metadata"]["name"])


def driver_starts(world: World) -> None:
    for head in world.heads.values():
        for job in head.jobs.values():
            if job.status == "PENDING":
                job.exit(1)


def store_down(world: World) -> None:
    world.store.mode = "down"
    world.later(20.0, setattr, world.store, "mode", "up")


def dashboard_hung(world: World) -> None:
    world.network.heads_unreachable = True
    world.later(20.0, setattr, world.network, "heads_unreachable", False)


CHANGES: dict[str, tuple[Callable[[World], None], Phase | None]] = {
    "run ends": (run_ends, Phase.SUCCEEDED),
    "run fails": (run_fails, Phase.FAILED),
    "head dies": (head_dies, Phase.SUCCEEDED),
    "cluster deleted": (cluster_deleted, Phase.SUCCEEDED),
    "driver fails": (driver_starts, Phase.SUCCEEDED),
    "store down": (store_down, Phase.SUCCEEDED),
    "dashboard hung": (dashboard_hung, Phase.SUCCEEDED),
    "canceled": (lambda world: world.change("trip", cancel=True), Phase.CANCELED),
    "deleted": (lambda world: world.delete("trip"), None),
}
"""Name -> what changes, and the phase at the end. A change that comes too late leaves the Workflow Succeeded."""

AT_EVERY_READ = ("run ends", "head dies", "deleted")
"""Changes that happen before more reads than the others."""


@dataclass
class Reads:
    """Numbers the requests of each round, and acts directly before one of them.

    Attributes:
        target: the round and the number of the request before which it acts; None only counts.
        sizes: the number of requests of each round.
    """

    target: tuple[int, int] | None = None
    act: Callable[[World], None] = lambda world: None
    round: int = 0
    number: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    phases: dict[int, Phase | None] = field(default_factory=dict)

    def watch(self, world: World) -> None:
        """Count the requests of a world."""

        def before(target: str, what: str) -> None:
            if what == "get workflows":
                self.round, self.number = self.round + 1, 0
                lives = list(world.checks.lives.values())
                self.phases[self.round] = lives[0].state.phase if lives else None
            self.number += 1
            self.sizes[self.round] = self.number
            if (self.round, self.number) == self.target:
                world.log(f"before '{what}' of round {self.round}")
                self.act(world)

        world.network.before_request = before


def script(world: World) -> None:
    """The head dies once, so that the Workflow passes all phases of a recovery."""
    when(world, lambda life: life.state.steps.succeeded >= 2, head_dies)


def simulate(reads: Reads, happens: Happening = script) -> World:
    def start(world: World) -> None:
        reads.watch(world)
        happens(world)

    return live_through(CODED_SPEC, start)


@cache
def chosen_reads() -> list[tuple[int, int]]:
    """Return all requests of the first round in each phase, before and after the head died."""
    reads = Reads()
    world = simulate(reads)
    assert not world.checks.problems, describe(world)
    assert life_of(world).state.phase is Phase.SUCCEEDED
    chosen: list[tuple[int, int]] = []
    before: Phase | None = None
    rounds_in_phase = 0
    for number, phase in reads.phases.items():
        rounds_in_phase = rounds_in_phase + 1 if phase is before else 1
        before = phase
        if rounds_in_phase == 1:
            chosen += [(number, index) for index in range(1, reads.sizes[number] + 1)]
    return chosen


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_any_two_reads_is_harmless(change: str) -> None:
    act, phase = CHANGES[change]
    reads = chosen_reads()
    assert len(reads) > 30
    for target in thinned(reads, 7 if change in AT_EVERY_READ else 20):
        world = simulate(Reads(target, act))
        assert not world.checks.problems, describe(world)
        life = life_of(world)
        end = None if life.gone else life.state.phase
        assert end in (phase, Phase.SUCCEEDED), describe(world)


@pytest.mark.parametrize("change", ["run ends", "run fails"])
def test_run_that_ends_between_two_reads_is_no_failure(change: str) -> None:
    counting = Reads()
    simulate(counting, lambda world: None)
    rounds = [number for number in counting.sizes if counting.phases[number] is Phase.RUNNING]
    for target in thinned([(number, at + 1) for number in rounds for at in range(counting.sizes[number])], 11):
        world = simulate(Reads(target, CHANGES[change][0]), lambda world: None)
        assert not world.checks.problems, describe(world)
        assert life_of(world).state.attempt == 1, describe(world)
        assert world.counts["phase Resumable"] == 0, describe(world)
        assert life_of(world).state.phase in (CHANGES[change][1], Phase.SUCCEEDED), describe(world)


def test_process_with_an_old_observation_does_no_harm() -> None:
    """A process stops after its observation while another one continues. Then it decides on the old observation."""
    for number in thinned(range(1, 13), 4):
        stopped: list[OperatorProcess] = []

        def stop(
            world: World,
            operator: OperatorProcess,
            point: str,
            at: int = number,
            stopped: list[OperatorProcess] = stopped,
        ) -> None:
            if point == "observed" and world.points.count("observed") == at and not stopped:
                stopped.append(operator)
                operator.process.stopped = True
                world.start_operator()
                world.later(15.0, world.loop.resume, operator.process)
                world.later(20.0, operator.kill)

        world = live_through(CODED_SPEC, script, stop)
        assert not world.checks.problems, describe(world)
        assert life_of(world).state.phase is Phase.SUCCEEDED, describe(world)
