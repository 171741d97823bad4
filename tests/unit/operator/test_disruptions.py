"""Disruptions: Kubernetes ends an attempt. They have reasons and a limit of their own, and do not use up maxResumes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.build import (
    HEAD,
    NOW,
    cluster,
    head,
    job,
    observation_of,
    read,
    running,
    spec,
    state,
    view,
    workflow,
)
from tests.unit.operator.cases import FAILURE, RESUMABLE
from workflow_operator.api.status import ClusterStatus, Failure, HeadIdentity, Phase, Resumes, Steps
from workflow_operator.core.actions import Decision, EmitEvent, EndRun
from workflow_operator.core.attempt_count import DISRUPTIONS
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import Owner, StepCounts
from workflow_operator.core.observation import Disruption

OTHER_HEAD = HeadIdentity(pod_uid="pod-2", container_id="containerd://2")
PREEMPTED = Disruption("PreemptionByScheduler", "preempted by pod x")
NODE = Disruption("NodeLost", "Node is not ready", node_lost=True)
SEEN = Steps(total=12, succeeded=7, running=2, summary="7/12")
"""The progress of the log, so that it is not new."""

STARTED = {"attempt_steps": 7}
"""The attempt started with the steps that the log still contains."""


def lose(named: Any, phase: Phase = Phase.RUNNING, **changes: Any) -> Decision:
    obj = workflow(state(phase, **STARTED))
    return decide(running(obj, named=named, clusters=(named,) if named else (), submission=None, **changes), NOW)


@pytest.mark.parametrize(
    ("named", "seen", "reason", "message"),
    [
        pytest.param(cluster(head=head(deleting=True, disruption=PREEMPTED)), None, "HeadDisrupted",
                     "PreemptionByScheduler: preempted by pod x", id="being deleted"),
        pytest.param(cluster(head=head(phase="Failed", running=False, disruption=PREEMPTED)), None, "HeadDisrupted",
                     "PreemptionByScheduler", id="failed"),
        pytest.param(cluster(head=head(running=False, disruption=PREEMPTED)), None, "HeadDisrupted",
                     "PreemptionByScheduler", id="terminated"),
        pytest.param(cluster(head=None), PREEMPTED, "HeadDisrupted", "PreemptionByScheduler", id="gone"),
        pytest.param(cluster(head=None), NODE, "HeadNodeLost", "Node is not ready", id="gone with its node"),
        pytest.param(cluster(head=head(identity=OTHER_HEAD)), PREEMPTED, "HeadDisrupted", "PreemptionByScheduler",
                     id="replaced"),
        pytest.param(cluster(suspended=True), None, "RayClusterSuspended", "suspended after it was ready",
                     id="suspended"),
        pytest.param(cluster(head=head(deleting=True)), None, "HeadPodLost", "being deleted", id="deleted by a user"),
        pytest.param(cluster(head=None), None, "HeadPodLost", "no longer exists", id="gone for an unknown reason"),
        pytest.param(cluster(head=head(identity=OTHER_HEAD, disruption=PREEMPTED)), None, "HeadPodLost", "replaced",
                     id="only its successor is disrupted"),
        pytest.param(cluster(deleting=True, head=head(disruption=PREEMPTED)), None, "RayClusterDeleted",
                     "being deleted", id="the RayCluster is being deleted"),
    ],
)  # fmt: skip
def test_disruption_has_a_reason_of_its_own(named: Any, seen: Disruption | None, reason: str, message: str) -> None:
    found = lose(named, disruption=seen)
    failure, resumes = found.state.last_failure, found.state.resumes
    assert found.state.phase is Phase.RESUMABLE
    assert failure is not None
    assert failure.reason == reason
    assert message in failure.message
    assert (resumes.disruptions, resumes.without_progress) == (reason in DISRUPTIONS, 1)
    events = [action for action in found.actions if isinstance(action, EmitEvent)]
    assert [(event.type, event.reason) for event in events] == [("Warning", reason)]


@pytest.mark.parametrize("disruption", [PREEMPTED, NODE], ids=str)
def test_announced_disruption_ends_nothing(disruption: Disruption) -> None:
    """The condition DisruptionTarget precedes the deletion of the pod, which may not follow."""
    alive = cluster(head=head(disruption=disruption))
    found = decide(running(named=alive, clusters=(alive,), disruption=disruption), NOW)
    assert found.state.phase is Phase.RUNNING
    assert not found.actions


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (head(phase="Failed", running=False, disruption=PREEMPTED), "HeadDisrupted"),
        (head(phase="Failed", running=False), "HeadPodFailed"),
    ],
)
def test_head_that_is_disrupted_before_it_is_ready(pod: Any, reason: str) -> None:
    obj = workflow(state(Phase.PROVISIONING))
    recorded = obj.state.cluster
    assert recorded is not None
    starting = workflow(obj.state.model_copy(update={"cluster": recorded.model_copy(update={"head": None})}))
    named = cluster(head=pod)
    found = decide(observation_of(starting, named=named, clusters=(named,)), NOW)
    assert found.state.last_failure is not None
    assert found.state.last_failure.reason == reason
    assert found.state.resumes.never_ran == (reason == "HeadPodFailed")


def test_pod_that_a_node_rejected_is_replaced_by_kuberay() -> None:
    obj = workflow(state(Phase.PROVISIONING))
    recorded = obj.state.cluster
    assert recorded is not None
    starting = workflow(obj.state.model_copy(update={"cluster": recorded.model_copy(update={"head": None})}))
    never_started = HeadIdentity(pod_uid="pod-1", container_id="")
    named = cluster(head=head(identity=never_started, phase="Failed", running=False, reason="OutOfcpu"))
    found = decide(observation_of(starting, named=named, clusters=(named,)), NOW)
    assert found.state.phase is Phase.PROVISIONING
    assert not [action for action in found.actions if not isinstance(action, EmitEvent)]


@pytest.mark.parametrize(
    "pod",
    [head(phase="Unknown", ready=False), head(identity=HeadIdentity(pod_uid="pod-1", container_id=""), running=False)],
    ids=["phase Unknown", "no container status"],
)
def test_pod_in_an_unknown_state_is_not_lost(pod: Any) -> None:
    named = cluster(head=pod)
    found = decide(running(named=named, clusters=(named,), submission=None), NOW)
    assert found.state.phase is Phase.RUNNING
    assert not found.actions


# --- the limits ---


def wait(reason: str, epochs: int, resumes: Resumes, **recovery: int) -> Decision:
    """Return the decision in Resumable after a failure with this reason, when the next attempt is due."""
    failure = Failure(time=NOW - 9, reason=reason, message="gone")
    obj = workflow(
        state(Phase.RESUMABLE, 2, last_failure=failure, next_attempt_time=NOW, resumes=resumes, epoch=1, steps=SEEN),
        spec=spec(recovery={"maxResumes": 2, "maxDisruptions": 3, **recovery}),
    )
    return decide(observation_of(obj, run=read(view(epochs_without_progress=epochs), RESUMABLE)), NOW)


@pytest.mark.parametrize(
    ("reason", "epochs", "resumes", "ends"),
    [
        pytest.param("HeadPodLost", 1, Resumes(), "", id="one failure"),
        pytest.param("HeadPodLost", 2, Resumes(), "ResumesExhausted", id="two failures"),
        pytest.param("HeadPodLost", 4, Resumes(excused=3), "", id="three disruptions and one failure"),
        pytest.param("HeadPodLost", 5, Resumes(excused=3), "ResumesExhausted", id="three disruptions, two failures"),
        pytest.param("HeadDisrupted", 2, Resumes(disruptions=3), "", id="three disruptions"),
        pytest.param("HeadNodeLost", 9, Resumes(disruptions=3), "", id="three lost nodes"),
        pytest.param("RayClusterSuspended", 0, Resumes(disruptions=4), "DisruptionsExhausted", id="four disruptions"),
        pytest.param("HeadPodLost", 1, Resumes(disruptions=4), "", id="a failure after four disruptions"),
    ],
)
def test_disruptions_have_their_own_limit(reason: str, epochs: int, resumes: Resumes, ends: str) -> None:
    found = wait(reason, epochs, resumes)
    ended = [action for action in found.actions if isinstance(action, EndRun)]
    assert [action.reason for action in ended] == ([ends] if ends else [])
    if ends == "DisruptionsExhausted":
        assert "4 consecutive disruptions (spec.recovery.maxDisruptions: 3)" in ended[0].message
    elif not ends:
        assert found.state.phase is Phase.PROVISIONING


def test_disruption_is_resumed_if_no_resumes_are_allowed() -> None:
    assert wait("HeadDisrupted", 0, Resumes(disruptions=1, excused=1), maxResumes=0).state.phase is Phase.PROVISIONING
    found = wait("HeadPodLost", 1, Resumes(disruptions=1, excused=1), maxResumes=0)
    assert [action.reason for action in found.actions if isinstance(action, EndRun)] == ["ResumesExhausted"]


def test_progress_resets_the_disruptions() -> None:
    before = state(Phase.RUNNING, resumes=Resumes(total=9, without_progress=4, disruptions=5, excused=4, never_ran=2))
    found = decide(running(workflow(before), run=read(view(counts=StepCounts(12, 8, 1)))), NOW)
    assert found.state.resumes == Resumes(total=9)


@pytest.mark.parametrize(("epochs", "excused", "ends"), [(5, 0, False), (6, 0, True), (9, 4, False), (10, 4, True)])
def test_managers_that_fail_in_a_row_end_the_run(epochs: int, excused: int, ends: bool) -> None:
    """The log permits more epochs than maxResumes, because it counts the disruptions too."""
    obj = workflow(state(Phase.RUNNING, resumes=Resumes(excused=excused), last_failure=FAILURE, steps=SEEN))
    found = decide(running(obj, run=read(view(epochs_without_progress=epochs))), NOW)
    assert (found.state.ending is not None) is ends
    if ends:
        assert found.state.ending is not None
        assert found.state.ending.reason == "ResumesExhausted"
        assert "6 consecutive owners" in found.state.ending.message


class Life:
    """The attempts of one Workflow, whose log counts claims as the library does: each claim until a step commits."""

    def __init__(self, **recovery: int) -> None:
        self.spec = spec(recovery=recovery)
        self.state = state(Phase.RUNNING, steps=SEEN, attempt_steps=6)
        self.claims = 0

    def ends(self, **broken: Any) -> str:
        """End the running attempt, start the next one, and return the reason for which the run ends; or empty."""
        healthy, named = cluster(self.state.attempt), cluster(self.state.attempt, **broken)
        owner = Owner("manager", "process", "manager", workflow().uid, self.state.attempt)
        run = view(owner=owner, epochs_without_progress=self.claims)
        alive, lost = read(run), read(run, RESUMABLE)
        recorded = ClusterStatus(name=named.name, uid=named.uid, head=HEAD)
        obj = workflow(self.state.model_copy(update={"cluster": recorded}), spec=self.spec)
        works = decide(running(obj, named=healthy, clusters=(healthy,), submission=job(), run=alive), NOW)
        assert works.state.phase is Phase.RUNNING
        obj = workflow(works.state, spec=self.spec)
        failed = decide(running(obj, named=named, clusters=(named,), submission=None, run=lost), NOW)
        assert failed.state.phase is Phase.RESUMABLE
        due = failed.state.next_attempt_time or NOW
        started = decide(observation_of(workflow(failed.state, spec=self.spec), run=lost), due)
        if started.state.ending is not None:
            return started.state.ending.reason
        self.claims += 1
        self.state = started.state.model_copy(update={"phase": Phase.RUNNING})
        return ""


LOST: dict[str, Any] = {"head": None}
SUSPENDED: dict[str, Any] = {"suspended": True}


@pytest.mark.parametrize(
    ("limit", "ends", "last"),
    [
        pytest.param(0, [LOST], "ResumesExhausted", id="no resume"),
        pytest.param(2, [LOST] * 3, "ResumesExhausted", id="two resumes"),
        pytest.param(0, [SUSPENDED, LOST], "ResumesExhausted", id="a disruption, then a failure"),
        pytest.param(0, [SUSPENDED] * 9, "", id="only disruptions"),
        pytest.param(2, [SUSPENDED] * 9, "", id="only disruptions, some resumes"),
        pytest.param(2, [LOST, SUSPENDED, SUSPENDED, LOST, SUSPENDED, LOST], "ResumesExhausted", id="both"),
        pytest.param(100, [SUSPENDED] * 11, "DisruptionsExhausted", id="too many disruptions"),
    ],
)
def test_run_ends_after_the_permitted_failures(limit: int, ends: list[dict[str, Any]], last: str) -> None:
    life = Life(maxResumes=limit, maxDisruptions=10)
    reasons = [life.ends(**broken) for broken in ends]
    assert reasons == [*[""] * (len(ends) - 1), last]
