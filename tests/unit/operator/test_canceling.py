"""Decisions in the phase Canceling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.build import ATTEMPT_NAME, HEAD, NOW, UID, cluster, observation_of, read, state, view, workflow
from tests.unit.operator.cases import CANCELED, OTHER, RESUMABLE, Case, W, check
from workflow_operator.api.status import ClusterStatus, Ending, Phase
from workflow_operator.core.actions import DeleteCluster, EndRun, HeadRef, RequestCancel, StopSubmission
from workflow_operator.core.decide import decide
from workflow_operator.core.observation import Observation, RunReadFailure, StoreFailure

DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")


def canceling(run: Any, named: Any = None, **changes: Any) -> Observation:
    obj = workflow(state(Phase.CANCELING, **changes), spec=CANCELED)
    return observation_of(obj, run=run, named=named or cluster(), clusters=(named or cluster(),))


CANCELING = {
    "request the manager to cancel": Case(
        canceling(read(view())), Phase.CANCELING, "CancelRequested", (RequestCancel,), expect={"cancel_time": NOW}
    ),
    "repeat the request to the manager": Case(
        canceling(read(view()), cancel_time=NOW - 9),
        Phase.CANCELING,
        "CancelRequested",
        (RequestCancel,),
        expect={"cancel_time": NOW - 9},
    ),
    "no cluster": Case(
        canceling(read(view()), None, cluster=None), Phase.CANCELING, "EndingRun", (DeleteCluster, EndRun)
    ),
    "manager does not cancel in time": Case(
        canceling(read(view()), cancel_time=NOW - 60), Phase.CANCELING, "EndingRun", (DeleteCluster, EndRun)
    ),
    "heartbeat expired": Case(
        canceling(read(view(), RESUMABLE)), Phase.CANCELING, "EndingRun", (DeleteCluster, EndRun)
    ),
    "head pod deleted": Case(
        canceling(read(view()), cluster(head=None)), Phase.CANCELING, "EndingRun", (DeleteCluster, EndRun)
    ),
    "no run yet": Case(canceling(read()), Phase.CANCELING, "EndingRun", (DeleteCluster, EndRun)),
    "store refuses the request": Case(
        replace(canceling(read(view())), refused="403"),
        Phase.CANCELING,
        "CancelOwed",
        (DeleteCluster, EndRun),
        message="Last problem: 403",
    ),
    "log contains CANCELED": Case(canceling(read(view(W.CANCELED))), Phase.CANCELED, "Canceled", (DeleteCluster,)),
    "log contains SUCCESSFUL": Case(
        canceling(read(view(W.SUCCESSFUL))), Phase.SUCCEEDED, "Succeeded", (DeleteCluster,)
    ),
    "another owner runs it": Case(canceling(read(view(owner=OTHER))), Phase.CANCELED, "Canceled", (DeleteCluster,)),
    "another owner released it": Case(
        canceling(read(view(owner=OTHER), RESUMABLE)), Phase.CANCELED, "Canceled", (DeleteCluster,)
    ),
    "store down": Case(canceling(DOWN, phase_time=NOW - 29), Phase.CANCELING, "StoreUnavailable"),
}


@pytest.mark.parametrize("case", CANCELING.values(), ids=CANCELING.keys())
def test_canceling(case: Case) -> None:
    check(case)


def test_request_to_cancel_is_repeated_until_its_time_limit() -> None:
    """The delay shrinks before the limit. Each request has the same run and reason."""
    for requested, delay in ((NOW, 2.0), (NOW - 30, 2.0), (NOW - 59, 1.0)):
        decision = decide(canceling(read(view()), cancel_time=requested), NOW)
        (request,) = (action for action in decision.actions if isinstance(action, RequestCancel))
        assert (request.run.run_number, request.run.uid, request.reason) == (1, UID, "spec.cancel is true")
        assert decision.requeue_after == delay
        condition = decision.state.condition("Reconciling")
        assert condition is not None
        assert condition.message == "the manager of the run was requested to stop its steps"
    ended = decide(canceling(read(view()), cancel_time=NOW - 60), NOW)
    (end,) = (action for action in ended.actions if isinstance(action, EndRun))
    assert (end.status, end.reason, end.message) == ("CANCELED", "Canceled", "spec.cancel is true")
    assert ended.requeue_after == 2.0
    assert ended.state.ending == Ending(status="CANCELED", reason="Canceled", message="spec.cancel is true")


def test_canceled_workflow_without_run_stops_its_driver() -> None:
    """The cluster was selected, so it stays."""
    selected = ClusterStatus(name=ATTEMPT_NAME, uid="cluster-1", head=HEAD, provisioned=False)
    obj = workflow(state(Phase.CANCELING, cluster=selected), spec=CANCELED)
    decision = decide(observation_of(obj, run=read(view(owner=OTHER)), named=cluster()), NOW)
    assert decision.state.phase is Phase.CANCELED
    assert [action for action in decision.actions if isinstance(action, StopSubmission)] == [
        StopSubmission(HeadRef(ATTEMPT_NAME, HEAD, "198.18.0.5", ATTEMPT_NAME), f"rwf-{UID}-1")
    ]
    assert (decision.requeue_after, decision.state.completion_time) == (None, NOW)
    condition = decision.state.condition("Canceled")
    assert condition is not None
    assert condition.message == "canceled before it owned a run"


def test_unreadable_log_is_read_again_after_five_seconds() -> None:
    assert decide(canceling(DOWN), NOW).requeue_after == 5.0
    assert decide(canceling(DOWN, phase_time=NOW - 29), NOW).requeue_after == 1.0
