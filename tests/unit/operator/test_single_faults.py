"""One fault in each round of a successful run, combined with a crash before each action.

The Workflow must still succeed. If the user cancels or deletes it, that must take effect instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.operator.clients import STEPS
from tests.unit.operator.model import OperatorModel
from workflow_operator.api.status import Phase, WorkflowState

ROUNDS = 8
KINDS = {"template": frozenset({"coded"}), "selector": frozenset({"selecting"}), "manual": frozenset({"manual"})}


def break_current_cluster(kind: str) -> Callable[[OperatorModel], None]:
    def happen(model: OperatorModel) -> None:
        cluster = model.clients.state.cluster
        if cluster is not None and cluster.name in model.clients.clusters:
            model.clients.break_cluster(model.clients.clusters[cluster.name], kind)

    return happen


def fail_driver(code: int) -> Callable[[OperatorModel], None]:
    def happen(model: OperatorModel) -> None:
        for _, job in model.jobs():
            model.clients.fail_driver(job, code)

    return happen


def down(part: str, seconds: float) -> Callable[[OperatorModel], None]:
    def happen(model: OperatorModel) -> None:
        setattr(model.clients, part, False)
        for _ in range(4):
            model.round()
            model.clients.now += seconds / 4
        setattr(model.clients, part, True)

    return happen


def lose_status(model: OperatorModel) -> None:
    model.clients.state, model.posted = WorkflowState(), {}


FAULTS: dict[str, tuple[Callable[[OperatorModel], None], Phase]] = {
    "no fault": (lambda model: None, Phase.SUCCEEDED),
    "head dies": (break_current_cluster("head dies"), Phase.SUCCEEDED),
    "head's container restarts": (break_current_cluster("container restarts"), Phase.SUCCEEDED),
    "RayCluster deleted": (break_current_cluster("deleted"), Phase.SUCCEEDED),
    "RayCluster suspended": (break_current_cluster("queue"), Phase.SUCCEEDED),
    "driver killed": (fail_driver(137), Phase.SUCCEEDED),
    "manager does not answer": (fail_driver(5), Phase.SUCCEEDED),
    "another DAG was found, and its run was deleted": (fail_driver(7), Phase.SUCCEEDED),
    "store refuses the cluster": (fail_driver(8), Phase.SUCCEEDED),
    "store down": (down("store_up", 600), Phase.SUCCEEDED),
    "network down for a moment": (down("network_up", 20), Phase.SUCCEEDED),
    "network down for long": (down("network_up", 600), Phase.SUCCEEDED),
    "status deleted": (lose_status, Phase.SUCCEEDED),
    "cancel": (lambda model: model.clients.cancel(), Phase.CANCELED),
}


def crashes() -> Iterator[tuple[int | None, bool]]:
    """List no crash, and crashes before the first actions of a round, of which one is executed later."""
    yield None, False
    for stop in range(3):
        yield stop, stop == 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize(("fault", "phase"), FAULTS.values(), ids=FAULTS.keys())
def test_workflow_survives_a_fault_and_a_crash_in_any_round(
    fault: Callable[[OperatorModel], None], phase: Phase, kind: frozenset[str]
) -> None:
    for rounds in range(ROUNDS):
        for stop, lost in crashes():
            model = OperatorModel(kind)
            model.advance(rounds)
            fault(model)
            model.round(stop, lost)
            model.finish()
            run = model.newest()
            assert model.clients.state.phase is phase, (rounds, stop, lost)
            assert phase is not Phase.SUCCEEDED or (run is not None and run.committed == STEPS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_deletion_in_any_round_leaves_nothing(kind: frozenset[str]) -> None:
    for rounds in range(1, ROUNDS):
        for stop, lost in crashes():
            model = OperatorModel(kind)
            model.advance(rounds)
            model.clients.delete()
            model.round(stop, lost)
            model.finish()
            run = model.newest()
            assert not model.clients.exists
            assert not model.clients.deferred
            assert run is None or run.status.is_terminal, (rounds, stop, lost)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_input_that_a_resume_refuses_never_ends_the_run(kind: frozenset[str]) -> None:
    for rounds in range(ROUNDS):
        for stop, lost in crashes():
            model = OperatorModel(kind)
            model.advance(rounds)
            existed = model.newest() is not None
            fail_driver(6)(model)
            model.round(stop, lost)
            model.finish()
            run = model.newest()
            assert run is not None
            assert run.tombstone or run.committed == STEPS, (rounds, stop, lost)
            assert not (existed and run.tombstone), (rounds, stop, lost)


def test_workflow_fails_if_every_head_dies() -> None:
    model = OperatorModel()
    for _ in range(200):
        model.advance(3, drive=False)
        model.clients.now += 130
        break_current_cluster("head dies")(model)
    assert model.clients.state.phase is Phase.FAILED
    failed = model.clients.state.condition("Failed")
    assert failed is not None
    assert failed.reason == "ResumesExhausted"
