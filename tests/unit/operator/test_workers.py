"""The condition WorkersReady: trouble of workers, in every phase with a cluster, with the steps that wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, read, running, state, view, workflow
from workflow.model.run_view import StepView
from workflow.model.status import StepPhase
from workflow_operator.api.status import Condition, Phase, WorkflowState
from workflow_operator.core.actions import Decision, DeleteCluster, EmitEvent
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.workers import KILLED_SHOWN_SECONDS
from workflow_operator.core.log_view import StepCounts, WorkflowStatus
from workflow_operator.core.observation import HeadUnreachable, Observation, PodProblem, WorkersView

NO_IMAGE = PodProblem("ImagePullBackOff", "pod w-1, image ray:9: no such image", NOW - 30)
NO_NODE = PodProblem("Unschedulable", "pod w-2: 0/3 nodes have a GPU", NOW - 30)
OOM = PodProblem("OOMKilled", "pod w-3: OOMKilled, exit code 137, memory limit 2Gi", NOW - 30)
READY = WorkersView(desired=2, ready=2)
TROUBLED = WorkersView(desired=4, ready=1, problem=NO_IMAGE, affected=3)
WAITS = "step train has no worker: it requests 1 GPU, and no node of the cluster has that"


def with_workers(workers: WorkersView, obj: Any = None, **changes: Any) -> Observation:
    named = cluster(workers=workers)
    return running(obj, **{"named": named, "clusters": (named,), **changes})


def condition_of(found: Decision) -> Condition:
    condition = found.state.condition("WorkersReady")
    assert condition is not None
    return condition


def shown(workers: WorkersView, **changes: Any) -> tuple[str, str, str]:
    condition = condition_of(decide(with_workers(workers, **changes), NOW))
    return condition.status, condition.reason, condition.message


def step(name: str, phase: StepPhase = StepPhase.RUNNING) -> StepView:
    return StepView(name, name, phase, (), "", 1, 1, NOW - 9, None, None)


def events_of(found: Decision) -> list[str]:
    return [action.reason for action in found.actions if isinstance(action, EmitEvent)]


@pytest.mark.parametrize(
    ("workers", "status", "reason", "text"),
    [
        (READY, "True", "WorkersReady", "2 of 2 workers"),
        (WorkersView(), "True", "NoWorkers", "its head executes the steps"),
        (WorkersView(desired=2, ready=1), "Unknown", "WorkersStarting", "1 of 2 workers"),
        (TROUBLED, "False", "ImagePullBackOff", "3 of 4 workers: pod w-1, image ray:9: no such image"),
        (WorkersView(1, 0, NO_NODE, 1), "False", "Unschedulable", "pod w-2: 0/3 nodes have a GPU"),
        (WorkersView(1, 1, killed=OOM), "False", "OOMKilled", "exit code 137, memory limit 2Gi"),
        (WorkersView(1, 1, killed=replace(OOM, since=NOW - 601)), "True", "WorkersReady", "1 of 1 workers"),
        (WorkersView(2, 0, NO_NODE, 1, OOM), "False", "Unschedulable", "GPU; pod w-3: OOMKilled"),
        (WorkersView(1, 0, OOM, 1, OOM), "False", "OOMKilled", OOM.message),
    ],
    ids=["ready", "none", "starting", "images", "no node", "killed", "killed long ago", "two", "out of memory"],
)
def test_condition_shows_the_trouble_of_workers(workers: WorkersView, status: str, reason: str, text: str) -> None:
    found = shown(workers)
    assert found[:2] == (status, reason)
    assert text in found[2]


@pytest.mark.parametrize("phase", [Phase.PROVISIONING, Phase.RUNNING, Phase.CANCELING])
def test_trouble_is_shown_in_every_phase_with_a_cluster(phase: Phase) -> None:
    found = decide(with_workers(TROUBLED, workflow(state(phase))), NOW)
    assert condition_of(found).reason == "ImagePullBackOff"


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RESUMABLE, Phase.SUCCEEDED])
def test_condition_is_unknown_without_a_cluster(phase: Phase) -> None:
    found = decide(with_workers(TROUBLED, workflow(state(phase))), NOW)
    assert (condition_of(found).status, condition_of(found).reason) == ("Unknown", "NoCluster")


def test_trouble_of_workers_does_not_fail_the_attempt() -> None:
    found = decide(with_workers(WorkersView(2, 0, OOM, 2, OOM)), NOW)
    assert found.state.phase is Phase.RUNNING
    assert not any(isinstance(action, DeleteCluster) for action in found.actions)
    assert found.state.reason == "OOMKilled"


# --- the steps that wait ---


def test_message_names_started_steps_that_may_wait() -> None:
    steps = (step("done", StepPhase.COMMITTED), *(step(f"train-{number}") for number in range(7)))
    run = read(view(steps=steps, counts=StepCounts(total=9, succeeded=1, running=7)))
    expected = "; started steps, which may wait for a worker: train-0, train-1, train-2, train-3, train-4 and 2 more"
    assert shown(TROUBLED, run=run)[2].endswith(expected)


def test_manager_explains_a_step_that_no_node_can_run() -> None:
    assert shown(READY, run=replace(read(view()), waiting=WAITS)) == ("False", "StepWaitsForWorker", WAITS)


def test_trouble_of_pods_precedes_the_words_of_the_manager() -> None:
    found = shown(TROUBLED, run=replace(read(view()), waiting=WAITS))
    assert found[1] == "ImagePullBackOff"
    assert found[2].endswith(f"no such image; {WAITS}")


def test_words_of_a_lost_manager_are_not_shown() -> None:
    run = replace(read(view(), WorkflowStatus.RESUMABLE), waiting=WAITS)
    assert shown(READY, run=run)[1] == "WorkersReady"


# --- rounds in a row ---


def follow(*rounds: tuple[float, WorkersView]) -> list[Decision]:
    """Decide several rounds, given as seconds and workers, each with the state of the round before."""
    decisions: list[Decision] = []
    current: WorkflowState = state(Phase.RUNNING)
    for seconds, workers in rounds:
        decisions.append(decide(with_workers(workers, workflow(current)), NOW + seconds))
        current = decisions[-1].state
    return decisions


def test_event_is_written_when_trouble_begins() -> None:
    other = WorkersView(4, 1, NO_NODE, 3)
    found = follow((0, READY), (1, TROUBLED), (2, TROUBLED), (3, other), (4, other), (5, READY), (6, TROUBLED))
    assert [events_of(each) for each in found] == [
        [],
        ["ImagePullBackOff"],
        [],
        ["Unschedulable"],
        [],
        [],
        ["ImagePullBackOff"],
    ]


def test_number_of_troubled_workers_repeats_no_event() -> None:
    found = follow((0, TROUBLED), (1, replace(TROUBLED, affected=2, ready=2)))
    assert events_of(found[1]) == []
    assert condition_of(found[1]).message.startswith("2 of 4 workers")


def test_killed_worker_is_shown_after_it_was_replaced() -> None:
    killed = WorkersView(2, 1, OOM, 1, OOM)
    last = KILLED_SHOWN_SECONDS + 1
    found = follow((-900, TROUBLED), (0, killed), (1, READY), (KILLED_SHOWN_SECONDS - 1, READY), (last, READY))
    assert [condition_of(each).reason for each in found] == [
        "ImagePullBackOff",
        "OOMKilled",
        "OOMKilled",
        "OOMKilled",
        "WorkersReady",
    ]
    assert [events_of(each) for each in found[1:]] == [["OOMKilled"], [], [], []]


def test_transition_time_changes_with_the_status() -> None:
    found = follow((0, TROUBLED), (5, WorkersView(4, 1, NO_NODE, 3)), (9, READY))
    assert [condition_of(each).last_transition_time for each in found] == [NOW, NOW, NOW + 9]


# --- the short reason ---


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (running(), "SubmissionRunning"),
        (with_workers(TROUBLED), "ImagePullBackOff"),
        (with_workers(TROUBLED, submission=HeadUnreachable("no reply")), "HeadUnreachable"),
        (build.observation_of(workflow(state(Phase.PENDING, 0), spec=None, refusal="bad")), "InvalidSpec"),
    ],
    ids=["runs", "worker trouble", "other trouble", "pending"],
)
def test_reason_is_one_word_for_the_phase(observation: Observation, reason: str) -> None:
    assert decide(observation, NOW).state.reason == reason


def test_resumable_workflow_shows_its_last_failure() -> None:
    lost = decide(running(named=None, clusters=()), NOW)
    assert (lost.state.phase, lost.state.reason) == (Phase.RESUMABLE, "RayClusterDeleted")
    later = decide(build.observation_of(workflow(lost.state), run=read(view())), NOW + 1)
    assert (later.state.phase, later.state.reason) == (Phase.RESUMABLE, "RayClusterDeleted")
