"""Simulates one seed: random Workflows, random faults for some minutes, and then a quiet time in which all must end.

python -m tests.support.operator_simulation.scenario 17                  # one seed, with its trace
python -m tests.support.operator_simulation.scenario 17 'dashboard hung'   # only this fault
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog

from tests.support.operator_simulation.checks import SHARED_ID, TICK_SECONDS
from tests.support.operator_simulation.faults import FAULTS, heal
from tests.support.operator_simulation.world import World
from tests.support.simulation.loop import StuckError
from tests.unit.operator import build
from workflow_operator.core.state import TERMINAL

QUIET_SECONDS = 3600.0
"""Virtual time after the last fault within which every Workflow must be finished."""

UNEXPECTED = "unexpected error in a reconciliation"


@dataclass(frozen=True)
class Report:
    """The result of one seed.

    Attributes:
        problems: the broken invariants.
        counts: how often each event happened.
    """

    seed: int
    problems: list[str]
    counts: dict[str, int]
    trace: str

    def describe(self) -> str:
        """Return the problems and the trace as one text."""
        command = f"python -m tests.support.operator_simulation.scenario {self.seed}"
        return "\n".join([f"seed {self.seed} ({command}):", *self.problems, "", self.trace])


def simulate(seed: int, only: Collection[str] = ()) -> Report:
    """Simulate one seed.

    Args:
        seed: decides everything that is random.
        only: if not empty, the only faults that are injected.
    """
    world = World(seed)
    plan = Random(seed)  # apart from the chance of the world, so that a longer simulation changes no choice of faults
    with logged_errors(world):
        try:
            world.loop.run(_live_through(world, plan, only), deadline=20_000.0)
        except StuckError as error:
            world.checks.problem(f"hang: {error}")
        world.checks.finish()
        world.loop.close()
    return Report(seed, world.checks.problems, dict(world.counts), "\n".join(world.trace))


async def _live_through(world: World, plan: Random, only: Collection[str]) -> None:
    for name in ("one", "two"):
        world.add_shared_cluster(name)
    world.seconds_per_step = plan.choice(((0.5, 3.0), (2.0, 12.0), (10.0, 40.0)))
    world.steps = plan.choice((1, 6, 15))
    specs = workflow_specs(plan)
    world.start_operator()
    for name, spec in specs.items():
        world.create_workflow(name, spec)
        await asyncio.sleep(plan.choice((0.0, 5.0, 30.0)))
    world.checks.tick()
    kinds = list(only) or plan.sample(sorted(FAULTS), k=plan.choice((1, 2, 4, 8)))
    mean = plan.choice((4.0, 15.0, 40.0))
    for _ in range(plan.choice((2, 4, 8, 12))):
        await asyncio.sleep(plan.expovariate(1.0 / mean))
        kind = plan.choice(kinds)
        world.count(kind)
        world.log(f"FAULT: {kind}")
        FAULTS[kind](world)
    await asyncio.sleep(plan.choice((0.0, 20.0, 120.0)))
    heal(world)
    await finish(world)


async def finish(world: World) -> None:
    """Wait until all Workflows are finished or gone, but not longer than the quiet time."""
    until = world.loop.time() + QUIET_SECONDS
    quiet_since: float | None = None
    while world.loop.time() < until:
        await asyncio.sleep(TICK_SECONDS)
        if world.loop.time() % 60.0 < TICK_SECONDS:  # for the recovery policy Manual
            for life in world.checks.lives.values():
                if not life.gone and life.state.phase not in TERMINAL:
                    world.annotate(life.name, resume=str(world.loop.time()))
        over = all(life.gone or life.state.phase in TERMINAL for life in world.checks.lives.values())
        over = over and not world.api.list("configmaps", "rayworkflow", {})
        quiet_since = (quiet_since or world.loop.time()) if over else None
        if quiet_since is not None and world.loop.time() - quiet_since >= 40.0:
            return


def workflow_specs(plan: Random) -> dict[str, dict[str, Any]]:
    """Return the specs of one or two Workflows."""
    specs = {}
    shared = plan.random() < 0.15
    for name in ("trip", "tour")[: 2 if shared or plan.random() < 0.2 else 1]:
        selecting = plan.random() < 0.2
        spec: dict[str, Any] = {
            **(build.SELECTING if selecting else build.SPEC),
            "recovery": {
                "policy": "Manual" if plan.random() < 0.1 else "Automatic",
                "maxResumes": 1000,
                "backoff": {"initialSeconds": plan.choice((0, 2)), "maxSeconds": 30},
            },
            "checkpoints": {"retention": plan.choice(("Retain", "Retain", "Delete", "DeleteOnSuccess"))},
            "preRunningDeadlineSeconds": 7200,
        }
        if shared or plan.random() < 0.2:
            spec["workflowId"] = SHARED_ID if shared else f"nightly-{name}"
        if plan.random() < 0.3:
            spec["code"] = {"configMap": {"name": "trip-code"}}
        specs[name] = spec
    return specs


@contextmanager
def logged_errors(world: World) -> Iterator[None]:
    """Turn unexpected errors that the reconciler logs into problems, and print nothing."""

    def collect(logger: Any, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        if event.get("event") == UNEXPECTED:
            error = sys.exc_info()[1]
            world.checks.problem(f"{UNEXPECTED}: {error!r}")
        elif event.get("event") == "cleanup abandoned":
            world.log(f"operator gives up: {event['cleanup']} of {event['workflow_id']}: {event['why']}")
            world.checks.abandoned.add(str(event["workflow_id"]))
        elif "error" in event:
            world.log(f"operator logs {event['event']}: {event['error']}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[collect])
    try:
        yield
    finally:
        structlog.configure(**before)


if __name__ == "__main__":
    report = simulate(int(sys.argv[1]), sys.argv[2:])
    print(report.describe())
    print(sorted(report.counts.items()))
