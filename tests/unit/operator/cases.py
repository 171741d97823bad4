"""The parts that the tables of decisions share: the type of a case, its check, and common values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, spec
from workflow_operator.api.status import ClusterStatus, Failure, Phase
from workflow_operator.core.actions import Decision, EmitEvent, StoreDriverLog
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import Owner, WorkflowStatus
from workflow_operator.core.observation import ConfigMapView, JobState, Observation

W, J = WorkflowStatus, JobState
RESUMABLE = W.RESUMABLE
OTHER = Owner("manager-2", "process-2", "manager-2", "other-uid", 1)


@dataclass(frozen=True)
class Case:
    """An observation and the expected decision.

    Attributes:
        observation: what `observe` read.
        phase: the expected phase.
        reason: the expected reason of `condition`.
        actions: the types of the expected actions, without events and copies of logs (see test_driver_log.py).
        message: a part of the expected message of `condition`.
        now: the time of the decision, in seconds since 1970.
        condition: the condition to check; by default Reconciling, or the terminal condition.
        expect: expected fields of the state.
    """

    observation: Observation
    phase: Phase
    reason: str
    actions: tuple[type, ...] = ()
    message: str = ""
    now: float = NOW
    condition: str = ""
    expect: dict[str, Any] = field(default_factory=dict)


_OF_OTHER_TABLES = (EmitEvent, StoreDriverLog)


def check(case: Case) -> Decision:
    """Decide, and compare the decision with the expectation."""
    decision = decide(case.observation, case.now)
    condition = decision.state.condition(case.condition or ("Reconciling" if case.phase in LIVE else str(case.phase)))
    assert decision.state.phase is case.phase
    assert condition is not None
    assert condition.reason == case.reason
    assert case.message in condition.message
    assert (
        tuple(type(action) for action in decision.actions if not isinstance(action, _OF_OTHER_TABLES)) == case.actions
    )
    for name, value in case.expect.items():
        assert getattr(decision.state, name) == value
    assert (decision.requeue_after is None) == (case.phase not in LIVE)
    assert decision.state.observed_generation == 3
    return decision


LIVE = (Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING, Phase.RESUMABLE, Phase.CANCELING)
CODED = spec(code={"configMap": {"name": "trip-code"}})
NAMED = spec(workflowId="nightly")
CANCELED = spec(cancel=True)
MANUAL = spec(recovery={"policy": "Manual"})
NO_CODE = ConfigMapView("trip-code", False)
GOOD_CODE = ConfigMapView("trip-code", True, sha256="abc")
FAILURE = Failure(time=NOW - 9, reason="HeadPodLost", message="gone", running_steps=("book",))
RECORDED = ClusterStatus(name=build.ATTEMPT_NAME, uid="cluster-1", head=build.HEAD)
CHOSEN = ClusterStatus(name="shared", uid="cluster-s", provisioned=False, head=build.HEAD)
SHARED = cluster(name="shared", uid="cluster-s", labels={"pool": "a"}, owner_uid="", token_secret="")


def unreachable(seconds: float, asked: float = 5.0) -> ClusterStatus:
    """Return the recorded cluster, whose head has not replied for some time.

    Args:
        seconds: the time since the first request without a reply.
        asked: the time since the recorded request without a reply.
    """
    return RECORDED.model_copy(update={"unreachable_since": NOW - seconds, "unreachable_until": NOW - asked})
