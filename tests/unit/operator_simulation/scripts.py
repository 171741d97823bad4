"""Short scripted simulations for the exhaustive tables: one Workflow, and one event at a chosen moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tests.support.operator_simulation.checks import Life
from tests.support.operator_simulation.scenario import finish, logged_errors
from tests.support.operator_simulation.world import OperatorProcess, World
from tests.support.simulation.loop import StuckError
from tests.unit.operator import build

SPEC: dict[str, Any] = {
    **build.SPEC,
    "recovery": {"maxResumes": 100, "backoff": {"initialSeconds": 1, "maxSeconds": 4}},
    "preRunningDeadlineSeconds": 7200,
}
SELECTING_SPEC = {**SPEC, "cluster": build.SELECTING["cluster"]}
CODED_SPEC = {**SPEC, "code": {"configMap": {"name": "trip-code"}}}

Happening = Callable[[World], None]
T = TypeVar("T")

FULL = os.environ.get("OPERATOR_SIMULATION_TABLES") == "full"
"""Whether the tables contain all cases, as in the soak test."""


def thinned(cases: Iterable[T], step: int) -> list[T]:
    """Return one of `step` consecutive cases, or all of them in the soak test."""
    return list(cases)[:: 1 if FULL else step]


def live_through(
    spec: dict[str, Any],
    happens: Happening = lambda world: None,
    at_point: Callable[[World, OperatorProcess, str], None] = lambda world, operator, point: None,
    seed: int = 1,
) -> World:
    """Simulate one Workflow from its creation until nothing of it is left to do, and check the invariants.

    Args:
        spec: the spec of the Workflow, which has the name `trip`.
        happens: called before the operator starts; it schedules events.
        at_point: called at each failpoint of the operator.
        seed: decides the delays.

    Returns:
        The world after the end. The caller asserts that `checks.problems` is empty.
    """
    world = World(seed)
    world.seconds_per_step, world.steps = (1.0, 3.0), 5
    world.at_point = lambda operator, point: at_point(world, operator, point)

    async def script() -> None:
        world.add_shared_cluster("one")
        happens(world)
        world.start_operator()
        world.create_workflow("trip", spec)
        world.checks.tick()
        await finish(world)

    with logged_errors(world):
        try:
            world.loop.run(script(), deadline=10_000.0)
        except StuckError as error:
            world.checks.problem(f"hang: {error}")
        world.checks.finish()
        world.loop.close()
    return world


def life_of(world: World) -> Life:
    """Return what was observed of the Workflow."""
    return next(iter(world.checks.lives.values()))


def when(world: World, condition: Callable[[Life], bool], act: Happening) -> None:
    """Act once as soon as the Workflow fulfils a condition."""

    def look() -> None:
        lives = list(world.checks.lives.values())
        if lives and not lives[0].gone and condition(lives[0]):
            act(world)
        else:
            world.later(0.05, look)

    world.later(0.0, look)


def describe(world: World) -> str:
    """Return the problems and the trace."""
    return "\n".join([*world.checks.problems, *world.trace])
