"""A pod that KubeRay cannot create: the attempt waits until its deadline, and a running one is never harmed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import (
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
from tests.unit.operator.cases import CHOSEN, RECORDED, RESUMABLE, SHARED, J
from workflow_operator.api.spec import Backoff
from workflow_operator.api.status import ClusterStatus, Phase, Resumes
from workflow_operator.core.actions import Decision, DeleteCluster, EmitEvent, SubmitRun
from workflow_operator.core.backoff import delay
from workflow_operator.core.decide import decide
from workflow_operator.core.names import TEMPLATE_LABEL
from workflow_operator.core.observation import Observation, PodProblem

QUOTA = 'pods "trip-head" is forbidden: exceeded quota: team, requested: cpu=2, used: cpu=3, limited: cpu=4'
WEBHOOK = 'admission webhook "policy.example.com" denied the request: no label'
ACCOUNT = 'pods "trip-head" is forbidden: error looking up service account team/missing: not found'
PROBLEMS = [QUOTA, WEBHOOK, ACCOUNT]
UNREADY = head(running=False, ready=False, phase="Pending")


def starting(named: Any, **changes: Any) -> Observation:
    status = {"cluster": ClusterStatus(name=build.ATTEMPT_NAME, uid="cluster-1"), "attempt_steps": 0}
    obj = workflow(state(Phase.PROVISIONING, **{**status, **changes}))
    return observation_of(obj, named=named, clusters=(named,))


def reconciling(decision: Decision) -> tuple[str, str]:
    condition = decision.state.condition("Reconciling")
    assert condition is not None
    return condition.reason, condition.message


def deletes(decision: Decision) -> bool:
    return any(isinstance(action, DeleteCluster) for action in decision.actions)


@pytest.mark.parametrize("problem", PROBLEMS, ids=["quota", "webhook", "service account"])
@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (lambda text: cluster(head=None, failed=f"FailedCreateHeadPod: {text}"), "FailedCreateHeadPod"),
        (lambda text: cluster(head=None, warning=f"FailedToCreateHeadPod: {text}"), "FailedToCreateHeadPod"),
        (lambda text: cluster(head=None, failed=text), "ReplicaFailure"),
        (lambda text: cluster(head=UNREADY, failed=f"FailedCreateWorkerPod: {text}"), "FailedCreateWorkerPod"),
    ],
    ids=["condition", "event", "state failed", "worker"],
)
def test_cluster_without_pods_waits_for_the_deadline(problem: str, named: Any, reason: str) -> None:
    """Only the deadline ends the attempt, and the cause is in the condition and in the failure."""
    last = None
    for seconds in range(0, 1750, 25):
        found = decide(starting(named(problem)), NOW + seconds)
        assert found.state.phase is Phase.PROVISIONING
        assert reconciling(found)[0] == reason
        assert problem in reconciling(found)[1]
        assert not deletes(found)
        stalled = found.state.condition("Stalled")
        assert stalled is not None
        assert stalled.status == "False"
        last = found
    assert last is not None
    assert [action.reason for action in last.actions if isinstance(action, EmitEvent)] == [reason]
    over = decide(starting(named(problem)), NOW + 1750)
    assert over.state.last_failure is not None
    assert over.state.last_failure.reason == "PreRunningDeadlineExceeded"
    assert problem in over.state.last_failure.message


def test_cause_of_a_pod_and_of_kuberay_are_both_shown() -> None:
    pulling = PodProblem("ImagePullBackOff", "image nope:1", NOW)
    found = decide(starting(cluster(head=UNREADY, failed=f"FailedCreateWorkerPod: {QUOTA}", pod_problem=pulling)), NOW)
    reason, message = reconciling(found)
    assert reason == "ImagePullBackOff"
    assert "nope:1" in message
    assert QUOTA in message


def test_ready_head_runs_although_workers_are_refused() -> None:
    found = decide(starting(cluster(failed=f"FailedCreateWorkerPod: {QUOTA}")), NOW)
    assert any(isinstance(action, SubmitRun) for action in found.actions)
    selecting = workflow(state(Phase.PROVISIONING, cluster=None), spec=build.spec(build.SELECTING))
    candidate = cluster(
        name="shared", uid="cluster-s", labels={"pool": "a"}, owner_uid="", failed=QUOTA, token_secret=""
    )
    chosen = decide(observation_of(selecting, candidates=(candidate,)), NOW)
    assert chosen.state.cluster == CHOSEN.model_copy(update={"head": None})
    assert SHARED.name == candidate.name


@pytest.mark.parametrize("failed", ["FailedDeleteHeadPod: no Worker", "FailedCreateHeadPod: x", "x"])
@pytest.mark.parametrize("liveness", [None, RESUMABLE])
def test_running_cluster_survives_any_trouble_of_kuberay(failed: str, liveness: Any) -> None:
    named = cluster(failed=failed)
    found = decide(running(named=named, clusters=(named,), run=read(view(), liveness)), NOW)
    assert found.state.phase is Phase.RUNNING
    assert not deletes(found)
    assert reconciling(found) == (
        "ReplicaFailure",
        "the submission of attempt 1 is running on the pods that exist; KubeRay cannot change the pods of RayCluster "
        f"{named.name}: {failed}",
    )
    assert [action.reason for action in found.actions if isinstance(action, EmitEvent)] == ["ReplicaFailure"]


def test_trouble_of_workers_is_left_to_their_own_condition() -> None:
    named = cluster(failed="FailedCreateWorkerPod: exceeded quota")
    found = decide(running(named=named, clusters=(named,)), NOW)
    assert (found.state.phase, reconciling(found)[0], deletes(found)) == (Phase.RUNNING, "SubmissionRunning", False)


@pytest.mark.parametrize("phase", [Phase.RESUMABLE, Phase.CANCELING], ids=str)
def test_kept_cluster_survives_any_trouble_of_kuberay(phase: Phase) -> None:
    named = cluster(failed=QUOTA)
    obj = workflow(state(phase, cluster=RECORDED, next_attempt_time=NOW), spec=spec(cancel=phase is Phase.CANCELING))
    assert not deletes(decide(running(obj, named=named, clusters=(named,), submission=None), NOW))


# --- the head became ready while no operator was running ---


@pytest.mark.parametrize(
    ("seconds", "deadline", "left"), [(0, 1800, 1750.0), (1749, 1800, 60.0), (99_999, 1800, 60.0), (99_999, 20, 20.0)]
)
def test_submission_has_a_minute_after_the_head_is_ready(seconds: float, deadline: int, left: float) -> None:
    ready = cluster()
    obj = workflow(
        state(Phase.PROVISIONING, cluster=ClusterStatus(name=build.ATTEMPT_NAME, uid="cluster-1")),
        spec=spec(preRunningDeadlineSeconds=deadline),
    )
    found = decide(observation_of(obj, named=ready, clusters=(ready,)), NOW + seconds)
    assert any(isinstance(action, SubmitRun) for action in found.actions)
    assert found.state.attempt_time is not None
    assert found.state.attempt_time + deadline - (NOW + seconds) == left
    pending = observation_of(
        workflow(found.state, spec=obj.spec), named=ready, clusters=(ready,), submission=job(J.PENDING)
    )
    assert decide(pending, NOW + seconds + left - 1).state.phase is Phase.PROVISIONING
    assert decide(pending, NOW + seconds + left).state.phase is Phase.RESUMABLE


# --- attempts in a row ---


def end(reason: str, resumes: Resumes, **changes: Any) -> Decision:
    """Return the decision of a round that ends an attempt without progress for a reason."""
    status: dict[str, Any] = {"resumes": resumes, "attempt_steps": 7, "steps": decide(running(), NOW).state.steps}
    lost = read(view(), RESUMABLE)
    if reason == "PreRunningDeadlineExceeded":
        return decide(
            starting(cluster(head=None), **{**status, "attempt_steps": 0, "steps": build.state(Phase.PENDING).steps}),
            NOW + 1750,
        )
    if reason == "TemplateChanged":
        named = cluster(head=UNREADY, labels=dict(cluster().labels) | {TEMPLATE_LABEL: "old"})
        obj = workflow(state(Phase.PROVISIONING, cluster=ClusterStatus(name=named.name, uid=named.uid), **status))
        return decide(observation_of(obj, named=named, clusters=(named,), run=lost), NOW)
    named = {
        "HeadPodLost": cluster(head=None),
        "RayClusterSuspended": cluster(suspended=True),
        "RayClusterDeleted": cluster(deleting=True),
    }[reason]
    obj = workflow(state(Phase.RUNNING, **status))
    return decide(running(obj, named=named, clusters=(named,), submission=None, run=lost), NOW)


@pytest.mark.parametrize(
    "reason",
    ["HeadPodLost", "RayClusterSuspended", "RayClusterDeleted", "PreRunningDeadlineExceeded", "TemplateChanged"],
)
def test_delay_grows_with_every_attempt_in_a_row(reason: str) -> None:
    resumes = Resumes(total=40)
    for number in range(1, 12):
        found = end(reason, resumes)
        assert found.state.last_failure is not None
        assert found.state.last_failure.reason == reason
        assert found.state.resumes.without_progress == number
        assert found.state.next_attempt_time is not None
        assert found.state.phase_time is not None
        assert found.state.next_attempt_time - found.state.phase_time == delay(Backoff(), number)
        resumes = found.state.resumes
    assert found.state.resumes.total == 40


def test_delay_ignores_resumes_that_made_progress() -> None:
    before = state(Phase.RUNNING, resumes=Resumes(total=40, without_progress=6), attempt_steps=3)
    named = cluster(head=None)
    found = decide(running(workflow(before), named=named, clusters=(named,), submission=None), NOW)
    assert found.state.resumes == Resumes(total=40)
    assert found.state.next_attempt_time == NOW + 2


def test_live_owner_of_another_cluster_does_not_hide_an_attempt() -> None:
    """After its cluster is gone, the heartbeat of the old owner is valid for 30 s. The next attempt is counted."""
    named = cluster(2, deleting=True)
    recorded = ClusterStatus(name=named.name, uid=named.uid)
    obj = workflow(state(Phase.PROVISIONING, 2, cluster=recorded, attempt_steps=7, resumes=Resumes(total=1)))
    found = decide(observation_of(obj, named=named, clusters=(named,), run=read(view())), NOW)
    assert found.state.resumes == Resumes(total=1, never_ran=1, without_progress=1)


def test_attempt_records_the_steps_it_starts_with() -> None:
    obj = workflow(state(Phase.RESUMABLE, next_attempt_time=NOW, epoch=1))
    found = decide(observation_of(obj, run=read(view(), RESUMABLE)), NOW)
    assert found.state.phase is Phase.PROVISIONING
    assert found.state.attempt_steps == 7


@pytest.mark.parametrize(
    ("was_ready", "reason"),
    [
        pytest.param(True, "HeadPodLost", id="KubeRay replaces no head that was ready"),
        pytest.param(False, None, id="KubeRay still creates the head"),
    ],
)
def test_head_that_is_gone_before_the_submission(was_ready: bool, reason: str | None) -> None:
    named = cluster(head=None, was_ready=was_ready, failed="FailedToCreateHeadPod: exceeded quota")
    recorded = ClusterStatus(name=named.name, uid=named.uid)
    obj = workflow(state(Phase.PROVISIONING, cluster=recorded))
    found = decide(observation_of(obj, named=named, clusters=(named,)), NOW)
    failure = found.state.last_failure
    assert (failure.reason if failure else None) == reason
    assert found.state.phase is (Phase.RESUMABLE if reason else Phase.PROVISIONING)
