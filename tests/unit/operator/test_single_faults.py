"""Every single fault at every round of a run that would go well, and every crash between two actions: it still
succeeds.

Where the fault is the user's word (cancel, delete) or the run's own end, that is what must come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.operator.clients import STEPS
from tests.unit.operator.pilot import Pilot
from workflow_operator.api.status import Phase, WorkflowState

ROUNDS = 8
KINDS = {"template": frozenset({"coded"}), "selector": frozenset({"selecting"}), "manual": frozenset({"manual"})}


def to_cluster(kind: str) -> Callable[[Pilot], None]:
    def happen(pilot: Pilot) -> None:
        cluster = pilot.clients.state.cluster
        if cluster is not None and cluster.name in pilot.clients.clusters:
            pilot.clients.mishap(pilot.clients.clusters[cluster.name], kind)

    return happen


def crash(code: int) -> Callable[[Pilot], None]:
    def happen(pilot: Pilot) -> None:
        for _, job in pilot.jobs():
            pilot.clients.crash(job, code)

    return happen


def down(part: str, seconds: float) -> Callable[[Pilot], None]:
    def happen(pilot: Pilot) -> None:
        setattr(pilot.clients, part, False)
        for _ in range(4):
            pilot.round()
            pilot.clients.now += seconds / 4
        setattr(pilot.clients, part, True)

    return happen


def lose_status(pilot: Pilot) -> None:
    pilot.clients.state, pilot.posted = WorkflowState(), {}


FAULTS: dict[str, tuple[Callable[[Pilot], None], Phase]] = {
    "nothing": (lambda pilot: None, Phase.SUCCEEDED),
    "head dies": (to_cluster("head dies"), Phase.SUCCEEDED),
    "head's container restarts": (to_cluster("container restarts"), Phase.SUCCEEDED),
    "RayCluster deleted": (to_cluster("deleted"), Phase.SUCCEEDED),
    "RayCluster suspended": (to_cluster("queue"), Phase.SUCCEEDED),
    "driver killed": (crash(137), Phase.SUCCEEDED),
    "manager does not answer": (crash(5), Phase.SUCCEEDED),
    "store down": (down("store_up", 600), Phase.SUCCEEDED),
    "network down for a moment": (down("network_up", 20), Phase.SUCCEEDED),
    "network down for long": (down("network_up", 600), Phase.SUCCEEDED),
    "status lost": (lose_status, Phase.SUCCEEDED),
    "cancel": (lambda pilot: pilot.clients.cancel(), Phase.CANCELED),
}


def crashes() -> Iterator[tuple[int | None, bool]]:
    """None, or a crash in the next round: before one of its first actions, which is never done or done much later."""
    yield None, False
    for stop in range(3):
        yield stop, stop == 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize(("fault", "phase"), FAULTS.values(), ids=FAULTS.keys())
def test_a_single_fault(fault: Callable[[Pilot], None], phase: Phase, kind: frozenset[str]) -> None:
    for rounds in range(ROUNDS):
        for stop, lost in crashes():
            pilot = Pilot(kind)
            pilot.go_on(rounds)
            fault(pilot)
            pilot.round(stop, lost)
            pilot.finish()
            run = pilot.newest()
            assert pilot.clients.state.phase is phase, (rounds, stop, lost)
            assert phase is not Phase.SUCCEEDED or (run is not None and run.committed == STEPS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_deletion_at_any_round_leaves_nothing(kind: frozenset[str]) -> None:
    for rounds in range(1, ROUNDS):
        for stop, lost in crashes():
            pilot = Pilot(kind)
            pilot.go_on(rounds)
            pilot.clients.delete()
            pilot.round(stop, lost)
            pilot.finish()
            run = pilot.newest()
            assert not pilot.clients.exists
            assert not pilot.clients.deferred
            assert run is None or run.status.is_terminal, (rounds, stop, lost)


def test_a_cluster_that_always_dies_ends_the_workflow() -> None:
    pilot = Pilot()
    for _ in range(200):
        pilot.go_on(3, drive=False)
        pilot.clients.now += 130
        to_cluster("head dies")(pilot)
    assert pilot.clients.state.phase is Phase.FAILED
    failed = pilot.clients.state.condition("Failed")
    assert failed is not None
    assert failed.reason == "ResumesExhausted"
