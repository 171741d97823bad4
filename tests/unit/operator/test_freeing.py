"""A cancel or a deletion frees the compute within 60 seconds, whatever the store does; the log is completed later."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, job, observation_of, state, workflow
from tests.unit.operator.cases import CANCELED, CHOSEN, RECORDED, SHARED, Case, J, check
from tests.unit.operator.model import OperatorModel
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import Phase
from workflow_operator.core import names
from workflow_operator.core.actions import DeleteCluster, StopSubmission
from workflow_operator.core.observation import HeadUnreachable, RunReadFailure, SecretView, StoreFailure

DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no answer")
LIMIT = 60.0
ROUNDS = range(8)
"""The numbers of rounds of a run without faults: they include each phase."""

FAILURES = [failure for failure in StoreFailure if failure is not StoreFailure.LOST]


def pass_time(model: OperatorModel, seconds: float) -> None:
    """Run rounds until this time has passed or the Workflow no longer exists."""
    end = model.clients.now + seconds
    while model.clients.exists and model.clients.now < end:
        delay = model.round()
        model.clients.now = end if delay is None else min(end, model.clients.now + max(delay, 0.5))
    if model.clients.exists:
        model.round()


def has_compute(model: OperatorModel) -> bool:
    owned = [each for each in model.clients.clusters.values() if each.owner_uid == build.UID]
    return bool(owned or model.jobs())


@pytest.mark.parametrize("kind", ["template", "selecting"])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.value)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_cancel_frees_the_compute_without_the_store(rounds: int, failure: StoreFailure, kind: str) -> None:
    model = OperatorModel(frozenset({kind}))
    model.advance(rounds)
    model.clients.store_up, model.clients.store_failure = False, failure
    model.clients.cancel()
    pass_time(model, LIMIT)
    assert not has_compute(model)
    assert model.clients.state.phase in (Phase.CANCELING, Phase.CANCELED)
    if model.clients.state.phase is Phase.CANCELING:
        explained = model.clients.state.condition("Reconciling")
        assert explained is not None
        assert explained.reason == "CancelOwed"
        assert "the state CANCELED to the log of run 1" in explained.message
        assert failure.value in explained.message
    model.finish()
    assert model.clients.state.phase is Phase.CANCELED
    run = model.newest()
    assert run is None or run.status is WorkflowStatus.CANCELED


@pytest.mark.parametrize("rounds", ROUNDS)
def test_cancel_during_a_resume_frees_the_compute(rounds: int) -> None:
    """The head died once, so the rounds include Resumable."""
    model = OperatorModel()
    model.advance(5)
    for each in list(model.clients.clusters.values()):
        if each.owner_uid == build.UID:
            model.clients.break_cluster(each, "head dies")
    model.clients.store_up = False
    model.advance(rounds)
    model.clients.cancel()
    pass_time(model, LIMIT)
    assert not has_compute(model)
    model.finish()
    assert model.clients.state.phase is Phase.CANCELED


def test_run_that_had_succeeded_wins_over_the_owed_cancel() -> None:
    model = OperatorModel()
    model.advance(5)
    run = model.newest()
    assert run is not None
    run.status = WorkflowStatus.SUCCESSFUL
    model.clients.store_up = False
    model.clients.cancel()
    pass_time(model, LIMIT)
    assert (model.clients.state.phase, has_compute(model)) == (Phase.CANCELING, False)
    model.finish()
    assert model.clients.state.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("kind", ["template", "selecting"])
@pytest.mark.parametrize("rounds", ROUNDS)
def test_deletion_ends_in_time_without_the_store(rounds: int, kind: str) -> None:
    model = OperatorModel(frozenset({kind}))
    model.advance(rounds)
    model.clients.store_up = False
    model.clients.delete()
    pass_time(model, 45.0)
    assert not model.clients.exists
    assert not has_compute(model)
    assert len(model.clients.deferred) <= 1


def canceling(phase_time: float = NOW - 30, **changes: Any) -> Any:
    selected = changes.pop("selected", False)
    named = SHARED if selected else cluster()
    recorded = changes.pop("cluster", CHOSEN if selected else RECORDED)
    obj = workflow(state(Phase.CANCELING, phase_time=phase_time, cluster=recorded), spec=CANCELED)
    clusters = () if selected else (named,)
    return observation_of(obj, **{"run": DOWN, "named": named, "clusters": clusters, **changes})


FREEING = {
    "within the grace period": Case(canceling(NOW - 29.5), Phase.CANCELING, "StoreUnavailable"),
    "after the grace period": Case(canceling(), Phase.CANCELING, "CancelOwed", (DeleteCluster,)),
    "nothing was submitted yet": Case(
        canceling(NOW, cluster=RECORDED.model_copy(update={"head": None})),
        Phase.CANCELING,
        "CancelOwed",
        (DeleteCluster,),
    ),
    "Secret deleted": Case(
        canceling(run=None, secret=SecretView("store", False)),
        Phase.CANCELING,
        "CancelOwed",
        (DeleteCluster,),
        message="SecretMissing",
    ),
    "selected cluster, submission runs": Case(
        canceling(selected=True, submission=job()), Phase.CANCELING, "CancelOwed", (StopSubmission,)
    ),
    "selected cluster, submission pending": Case(
        canceling(selected=True, submission=job(J.PENDING)), Phase.CANCELING, "CancelOwed", (StopSubmission,)
    ),
    "selected cluster, submission ended": Case(
        canceling(selected=True, submission=job(J.STOPPED)), Phase.CANCELING, "CancelOwed"
    ),
    "selected cluster, head unreachable": Case(
        canceling(selected=True, submission=HeadUnreachable("no")), Phase.CANCELING, "CancelOwed"
    ),
}


@pytest.mark.parametrize("case", FREEING.values(), ids=FREEING.keys())
def test_compute_is_freed_while_the_log_cannot_be_read(case: Case) -> None:
    decision = check(case)
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 5.0


def pending(**changes: Any) -> Any:
    values = {"run": DOWN, **changes}
    obj = workflow(
        state(Phase.PENDING, attempt=0, cancel_time=values.pop("cancel_time", None), ending=values.pop("ending", None)),
        spec=CANCELED,
    )
    return observation_of(obj, **values)


NEVER_STARTED = {
    "the store may return": Case(pending(), Phase.PENDING, "StoreUnavailable", expect={"cancel_time": NOW}),
    "the store does not return": Case(pending(cancel_time=NOW - 30), Phase.CANCELED, "Canceled"),
    "clusters show an earlier attempt": Case(
        pending(cancel_time=NOW - 30, clusters=(cluster(2),)), Phase.PENDING, "CancelOwed", (DeleteCluster,)
    ),
    "cluster of another owner": Case(
        pending(cancel_time=NOW - 30, clusters=(cluster(2, owner_uid="other"),)), Phase.CANCELED, "Canceled"
    ),
}


@pytest.mark.parametrize("case", NEVER_STARTED.values(), ids=NEVER_STARTED.keys())
def test_cancel_before_an_attempt_does_not_wait_for_ever(case: Case) -> None:
    check(case)


def test_lost_status_is_remembered_until_the_log_is_read() -> None:
    first = check(Case(pending(clusters=(cluster(2),)), Phase.PENDING, "CancelOwed", (DeleteCluster,)))
    assert first.state.ending is not None
    later = pending(cancel_time=NOW - 500, ending=first.state.ending)
    check(Case(later, Phase.PENDING, "CancelOwed"))
    assert names.FINALIZER in later.workflow.finalizers
