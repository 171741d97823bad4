"""Messages for people: bounded by whole words, the cause first, and none from an earlier phase."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, head, job, read, running, state, view, workflow
from tests.unit.operator.cases import J, W
from workflow_operator.api.status import ClusterStatus, HeadIdentity, Phase, WorkflowState
from workflow_operator.core.actions import EmitEvent
from workflow_operator.core.conditions import Explanation, conditions, explanation_of
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import ErrorInfo
from workflow_operator.core.observation import HeadUnreachable

WORDS = [f"word{number}" for number in range(3000)]
LONG = " ".join(WORDS)
OOM = "OOMKilled, exit code 137, memory limit 2Gi"


def texts_of(found: WorkflowState) -> list[str]:
    failure = [found.last_failure.message] if found.last_failure else []
    ending = [found.ending.message] if found.ending else []
    return [*(each.message for each in found.conditions), *failure, *ending]


@pytest.mark.parametrize(
    "observation",
    [
        running(submission=HeadUnreachable(LONG)),
        running(submission=job(J.FAILED, 1, LONG)),
        running(submission=job(J.FAILED, 6, LONG)),
        running(run=read(view(W.FAILED, reason="StepFailed", error=ErrorInfo("ValueError", LONG, "", "book")))),
    ],
    ids=["unreachable", "submission failed", "bad input", "run failed"],
)
def test_no_message_is_cut_within_a_word(observation: Any) -> None:
    found = decide(observation, NOW)
    events = [action.message for action in found.actions if isinstance(action, EmitEvent)]
    long_texts = [text for text in (*texts_of(found.state), *events) if "word0" in text]
    assert long_texts
    for text in long_texts:
        assert " ... " in text
        assert {word.rstrip(";") for word in text.split() if word.startswith("word")} <= set(WORDS)
        assert "word2999" in text


def test_failed_submission_begins_with_its_error() -> None:
    found = decide(running(submission=job(J.FAILED, 1, "ValueError: no seat\nTraceback: ...")), NOW).state
    assert found.last_failure is not None
    assert found.last_failure.message.startswith("the submission failed with exit code 1: ValueError: no seat\n")


def test_failure_of_the_head_names_its_memory_limit() -> None:
    lost = head(phase="Failed", running=False, reason="OOMKilled", detail=OOM)
    found = decide(running(named=cluster(head=lost)), NOW).state
    assert found.last_failure is not None
    assert found.last_failure.message.endswith(f"({OOM})")
    starting = state(Phase.PROVISIONING, cluster=ClusterStatus(name=cluster().name, uid="cluster-1"))
    found = decide(running(workflow(starting), named=cluster(head=lost), submission=None), NOW).state
    assert found.last_failure is not None
    assert OOM in found.last_failure.message


def test_evicted_head_has_the_words_of_the_kubelet() -> None:
    lost = head(phase="Failed", running=False, reason="Evicted", detail="The node was low on memory.")
    found = decide(running(named=cluster(head=lost)), NOW).state
    assert found.last_failure is not None
    assert "(Evicted, The node was low on memory.)" in found.last_failure.message


def test_step_that_ran_out_of_memory_fails_with_that_cause() -> None:
    error = ErrorInfo(
        "ray.exceptions.OutOfMemoryError", "Task was killed due to the node running low on memory", "", "a"
    )
    found = decide(running(run=read(view(W.FAILED, reason="StepFailed", error=error))), NOW).state
    condition = found.condition("Failed")
    assert condition is not None
    assert condition.message.startswith("step a: ray.exceptions.OutOfMemoryError: Task was killed")


CLUSTERS = {
    "no cluster": None,
    "no head": ClusterStatus(name="c"),
    "head": ClusterStatus(name="c", head=HeadIdentity(pod_uid="p", container_id="c")),
    "unreachable head": ClusterStatus(name="c", unreachable_since=NOW),
}


@pytest.mark.parametrize("recorded", CLUSTERS.values(), ids=CLUSTERS.keys())
@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELED])
def test_finished_workflow_shows_no_earlier_message(phase: Phase, recorded: ClusterStatus | None) -> None:
    before = state(Phase.RESUMABLE, cluster=recorded)
    earlier = Explanation("HeadUnreachable", "an earlier message", blocked=True)
    before = before.model_copy(update={"conditions": conditions(before, earlier, 1, NOW - 9)})
    after = before.model_copy(update={"phase": phase})
    found = conditions(after, Explanation("Because", "the last message"), 2, NOW)
    assert all("earlier" not in each.message for each in found)
    ready = next(each for each in found if each.type == "ClusterReady")
    assert (ready.status, ready.reason) == ("False", "NoCluster")


def test_each_phase_is_explained_by_one_message() -> None:
    explained = Explanation("Because", "of a test", blocked=True, stalled=True)
    for phase in Phase:
        before = state(phase)
        after = before.model_copy(update={"conditions": conditions(before, explained, 1, NOW)})
        assert explanation_of(after) == "of a test", phase


def test_message_of_a_terminal_phase_stays() -> None:
    error = ErrorInfo("ValueError", "no seat", "", "book")
    first = decide(running(run=read(view(W.FAILED, reason="StepFailed", error=error))), NOW).state
    later = decide(replace(running(workflow(first)), named=None, clusters=()), NOW + 60).state
    assert explanation_of(later) == explanation_of(first) == "step book: ValueError: no seat"
    assert later.reason == "StepFailed"
