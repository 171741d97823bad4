"""Decisions in the phase Canceling."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, observation_of, read, state, view, workflow
from tests.unit.operator.cases import CANCELED, OTHER, RESUMABLE, Case, W, check
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import DeleteCluster, EndRun, RequestCancel
from workflow_operator.core.observation import Observation, RunReadFailure, StoreFailure


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
        canceling(read(view()), cancel_time=NOW - 60), Phase.CANCELING, "EndingRun", (EndRun,)
    ),
    "heartbeat expired": Case(canceling(read(view(), RESUMABLE)), Phase.CANCELING, "EndingRun", (EndRun,)),
    "head pod deleted": Case(canceling(read(view()), cluster(head=None)), Phase.CANCELING, "EndingRun", (EndRun,)),
    "no run yet": Case(canceling(read()), Phase.CANCELING, "EndingRun", (EndRun,)),
    "log contains CANCELED": Case(canceling(read(view(W.CANCELED))), Phase.CANCELED, "Canceled", (DeleteCluster,)),
    "log contains SUCCESSFUL": Case(
        canceling(read(view(W.SUCCESSFUL))), Phase.SUCCEEDED, "Succeeded", (DeleteCluster,)
    ),
    "another owner runs it": Case(canceling(read(view(owner=OTHER))), Phase.CANCELED, "Canceled", (DeleteCluster,)),
    "another owner released it": Case(
        canceling(read(view(owner=OTHER), RESUMABLE)), Phase.CANCELED, "Canceled", (DeleteCluster,)
    ),
    "store down": Case(canceling(RunReadFailure(StoreFailure.UNAVAILABLE, "no")), Phase.CANCELING, "StoreUnavailable"),
}


@pytest.mark.parametrize("case", CANCELING.values(), ids=CANCELING.keys())
def test_canceling(case: Case) -> None:
    check(case)
