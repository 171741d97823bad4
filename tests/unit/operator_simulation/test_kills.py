"""The operator is killed at each failpoint: between any two actions of a decision, and before and after each of them.

Each script first runs without a kill, which gives the list of its failpoints. Then it runs once for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.support.operator_simulation.world import OperatorProcess, World
from tests.unit.operator_simulation.scripts import (
    CODED_SPEC,
    SELECTING_SPEC,
    SPEC,
    Happening,
    describe,
    life_of,
    live_through,
    thinned,
    when,
)
from workflow_operator.api.status import Phase

RESTART_SECONDS = 3.0


def running_with_progress(act: Callable[[World], None]) -> Happening:
    """Act when the run has two committed steps."""
    return lambda world: when(world, lambda life: life.state.steps.succeeded >= 2, act)


def lose_head(world: World) -> None:
    state = life_of(world).state
    assert state.cluster is not None
    world.kuberay.lose_head(state.cluster.name, "deleted")


def delete_without_store(world: World) -> None:
    world.store.mode = "down"
    world.delete("trip")


def fail_driver(world: World) -> None:
    for head in world.heads.values():
        for job in head.jobs.values():
            job.exit(137)


SCRIPTS: dict[str, tuple[dict[str, Any], Happening, Phase | None]] = {
    "succeeds": (CODED_SPEC, lambda world: None, Phase.SUCCEEDED),
    "head lost": (CODED_SPEC, running_with_progress(lose_head), Phase.SUCCEEDED),
    "driver fails": (SPEC, running_with_progress(fail_driver), Phase.SUCCEEDED),
    "canceled": (SPEC, running_with_progress(lambda world: world.change("trip", cancel=True)), Phase.CANCELED),
    "canceled on a selected cluster": (
        SELECTING_SPEC, running_with_progress(lambda world: world.change("trip", cancel=True)), Phase.CANCELED,
    ),
    "deleted on a selected cluster": (SELECTING_SPEC, running_with_progress(lambda world: world.delete("trip")), None),
    "deleted": (SPEC, running_with_progress(lambda world: world.delete("trip")), None),
    "deleted with its checkpoints": (
        {**SELECTING_SPEC, "checkpoints": {"retention": "Delete"}},
        running_with_progress(lambda world: world.delete("trip")),
        None,
    ),
    "deleted while the store is down": (
        SPEC,
        running_with_progress(delete_without_store),
        None,
    ),
    "released": ({**SPEC, "workflowId": "nightly"}, running_with_progress(lambda world: world.delete("trip")), None),
}  # fmt: skip
"""Name -> spec, event, and the phase at the end; None if the object is gone."""

PAIRS = {
    ("patched", "StageCode"), ("patched", "SubmitRun"), ("StageCode", "SubmitRun"),
    ("EmitEvent", "CreateCluster"), ("EmitEvent", "DeleteCluster"), ("patched", "RequestCancel"),
    ("EmitEvent", "AddFinalizer"), ("StoreDriverLog", "StopSubmission"), ("StopSubmission", "EndRun"),
    ("DeleteCluster", "EndRun"), ("DeleteCluster", "ReleaseRun"), ("StopSubmission", "DeleteCheckpoints"),
    ("DeferCleanup", "RemoveFinalizer"), ("patched", "RemoveFinalizer"),
    ("EmitEvent", "StoreDriverLog"), ("StoreDriverLog", "DeleteCluster"),
}  # fmt: skip
"""Each kind of gap between two actions, or between the status PATCH and an action, in which the operator is killed."""

visited: dict[str, list[str]] = {}


def with_end_of_outage(happens: Happening) -> Happening:
    """Let the store be up again 300 seconds after the start, later than any deletion may wait for it."""

    def both(world: World) -> None:
        world.later(300.0, setattr, world.store, "mode", "up")
        happens(world)

    return both


def points_of(name: str) -> list[str]:
    """Return the failpoints of a script without a kill."""
    if name not in visited:
        spec, happens, _ = SCRIPTS[name]
        world = live_through(spec, with_end_of_outage(happens))
        assert not world.checks.problems, describe(world)
        visited[name] = list(world.points)
    return visited[name]


def distinct(points: list[str]) -> list[int]:
    """Return the indexes of the failpoints, with one of each sequence of three points."""
    first: dict[tuple[str, ...], int] = {}
    for index in range(len(points)):
        first.setdefault(tuple(points[max(index - 1, 0) : index + 2]), index)
    return list(first.values())


@pytest.mark.parametrize("name", SCRIPTS)
def test_kill_at_every_failpoint(name: str) -> None:
    spec, happens, phase = SCRIPTS[name]
    for index in thinned(distinct(points_of(name)), 6):

        def kill(world: World, operator: OperatorProcess, point: str, index: int = index) -> None:
            if len(world.points) == index + 1:
                world.log(f"at failpoint {point}")
                world.kill_operator(RESTART_SECONDS)

        world = live_through(spec, with_end_of_outage(happens), kill)
        assert not world.checks.problems, describe(world)
        life = life_of(world)
        assert (None if life.gone else life.state.phase) is phase, describe(world)


def test_every_gap_between_two_actions_is_covered() -> None:
    gaps = set()
    for name in SCRIPTS:
        points = points_of(name)
        for before, after in pairwise(points):
            if after.startswith("before "):
                gaps.add((before.removeprefix("after "), after.removeprefix("before ")))
    assert gaps >= PAIRS, PAIRS - gaps
