"""Heads with sidecars: a late one is waited for, a broken one does not prevent the run, and both are named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, head, running, state, workflow
from tests.unit.operator.cases import RECORDED
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import Decision, SubmitRun
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.sidecars import SIDECAR_SECONDS
from workflow_operator.core.observation import HeadUnreachable, RunRead

NEW = RECORDED.model_copy(update={"head": None})


def decided(now: float = NOW, recorded: Any = NEW, **of_head: Any) -> Decision:
    named = cluster(head=head(started=NOW - 10, **of_head))
    obj = workflow(state(Phase.PROVISIONING, cluster=recorded))
    return decide(running(obj, named=named, clusters=(named,), submission=None, run=RunRead()), now)


def is_submitted(found: Decision) -> bool:
    return any(isinstance(action, SubmitRun) for action in found.actions)


def test_submission_waits_for_a_late_sidecar() -> None:
    found = decided(sidecars=("istio-proxy",))
    condition = found.state.condition("ClusterReady")
    assert not is_submitted(found)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "SidecarNotReady")
    assert "head pod head-pod waits for its sidecar istio-proxy" in condition.message
    assert found.requeue_after == 5.0


def test_sidecar_that_never_gets_ready_does_not_prevent_the_run() -> None:
    assert is_submitted(decided(now=NOW - 10 + SIDECAR_SECONDS, sidecars=("log-shipper",)))


def test_head_with_ready_sidecars_is_submitted_to_at_once() -> None:
    assert is_submitted(decided())


def test_attempt_with_a_chosen_head_no_longer_waits() -> None:
    assert decided(recorded=RECORDED, sidecars=("istio-proxy",)).state.reason != "SidecarNotReady"


@pytest.mark.parametrize(("sidecars", "reason"), [(("istio-proxy",), "SidecarNotReady"), ((), "ClusterStarting")])
def test_sidecar_that_delays_the_ray_container_is_named(sidecars: tuple[str, ...], reason: str) -> None:
    assert decided(running=False, ready=False, sidecars=sidecars).state.reason == reason


def test_head_that_a_proxy_refuses_shows_the_remedy() -> None:
    reply = HeadUnreachable("the head does not answer: exclude port 8265")
    found = decide(running(submission=reply), NOW).state.condition("ClusterReady")
    assert found is not None
    assert "exclude port 8265" in found.message
