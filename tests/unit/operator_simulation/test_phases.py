"""In each phase, the user edits, cancels or deletes the object, or its cluster disappears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.operator_simulation.faults import step_fails
from tests.support.operator_simulation.world import World
from tests.unit.operator_simulation.scripts import SPEC, Happening, describe, life_of, live_through, thinned, when
from workflow_operator.api.status import Phase

P = Phase


def reach(phase: Phase) -> Happening:
    """Return what brings the Workflow into a phase and keeps it there for some seconds."""

    def happen(world: World) -> None:
        if phase is P.PENDING:
            secret = world.api.get("secrets", world.namespace, "store")
            assert secret is not None
            world.api.delete("user", "secrets", world.namespace, "store")
            body = {"metadata": {"name": "store"}, "data": secret["data"]}
            world.later(30.0, world.api.create, "user", "secrets", world.namespace, body)
        if phase is P.RESUMABLE:
            when(world, lambda life: life.state.steps.succeeded >= 2, lose_cluster)
        if phase is P.CANCELING:
            when(world, lambda life: life.state.steps.succeeded >= 2, lambda world: world.change("trip", cancel=True))
        if phase is P.CANCELED:
            when(world, lambda life: life.state.phase is P.RUNNING, lambda world: world.change("trip", cancel=True))
        if phase is P.FAILED:
            when(world, lambda life: life.state.phase is P.RUNNING, step_fails)

    return happen


def lose_cluster(world: World) -> None:
    for cluster in world.api.list("rayclusters", None, {"rayworkflow.dev/workflow": "trip"}):
        world.api.delete("user", "rayclusters", world.namespace, cluster["metadata"]["name"])


def edit(world: World) -> None:
    world.change("trip", recovery={"maxResumes": 90}, args={"origin": "SFO"})


def edit_invalid(world: World) -> None:
    """A user writes an invalid spec, which an old CRD accepts, and corrects it later."""
    world.change("trip", preRunningDeadlineSeconds=-1)
    world.later(20.0, lambda: world.change("trip", preRunningDeadlineSeconds=7200))


def edit_template(world: World) -> None:
    world.change("trip", cluster={"template": {"metadata": {"labels": {"team": "b"}}}})


CHANGES: dict[str, Callable[[World], None]] = {
    "edited": edit,
    "edited wrongly": edit_invalid,
    "template edited": edit_template,
    "canceled": lambda world: world.change("trip", cancel=True),
    "deleted": lambda world: world.delete("trip"),
    "cluster deleted": lose_cluster,
}


def expected(phase: Phase, change: str) -> Phase | None:
    """Return the phase at the end; None if the object is gone."""
    if change == "deleted":
        return None
    if phase in (P.SUCCEEDED, P.FAILED, P.CANCELED):
        return phase
    return P.CANCELED if change == "canceled" or phase is P.CANCELING else P.SUCCEEDED


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("change", CHANGES)
def test_change_in_every_phase(phase: Phase, change: str) -> None:
    changed: list[Any] = []

    def act(world: World) -> None:
        changed.append(world.loop.time())
        CHANGES[change](world)

    def happens(world: World) -> None:
        reach(phase)(world)
        when(world, lambda life: life.state.phase is phase, act)

    for seed in thinned((1, 2), 2):
        changed.clear()
        spec = {**SPEC, "recovery": {"maxResumes": 100, "backoff": {"initialSeconds": 10, "maxSeconds": 10}}}
        world = live_through(spec, happens, seed=seed)
        assert changed, "the Workflow never had this phase"
        assert not world.checks.problems, describe(world)
        life = life_of(world)
        assert (None if life.gone else life.state.phase) is expected(phase, change), describe(world)
