"""How a failed attempt is counted, when the next one starts, and whether it gets a new cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, job, observation_of, read, spec, state, view, workflow
from tests.unit.operator.cases import FAILURE, OTHER, RECORDED, RESUMABLE, J
from workflow.model.run_view import StepView
from workflow.model.status import StepPhase
from workflow_operator.api.spec import Backoff
from workflow_operator.api.status import Ending, Phase, Resumes, Steps
from workflow_operator.core import names
from workflow_operator.core.actions import Decision, EndRun, RequestCancel
from workflow_operator.core.backoff import delay
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import Owner
from workflow_operator.core.observation import RunReadFailure, StoreFailure

SETTINGS = {"backoff": {"initialSeconds": 3, "maxSeconds": 1000}, "maxResumes": 50}
SEEN = Steps(total=12, succeeded=7, running=2, summary="7/12")
"""The progress of `view()`, so that it is not new."""

DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")


@pytest.mark.parametrize(
    ("initial", "longest", "without_progress", "seconds"),
    [
        (3, 1000, 0, 3), (3, 1000, 1, 3), (3, 1000, 2, 6), (3, 1000, 9, 768), (3, 1000, 10, 1000), (3, 1000, 99, 1000),
        (60, 60, 1, 60), (60, 60, 5, 60), (1, 100_000, 17, 65_536), (1, 31_536_000, 24, 2**23),
        (1, 31_536_000, 99, 31_536_000),
    ],
)  # fmt: skip
def test_delay_follows_the_settings(initial: int, longest: int, without_progress: int, seconds: float) -> None:
    assert delay(Backoff(initial_seconds=initial, max_seconds=longest), without_progress) == seconds


def mine(attempt: int, epochs: int = 0, **changes: Any) -> Any:
    """Return this Workflow's run, which was claimed by one of its attempts."""
    return view(
        owner=Owner("manager-1", "process-1", "manager-1", workflow().uid, attempt),
        epochs_without_progress=epochs,
        **changes,
    )


def fail_attempt(run: Any, never_ran: int, *, kind: str = "head", steps: Steps = SEEN, **changes: Any) -> Decision:
    """Return the decision of a round in which the third attempt failed: its head was lost, or only its submission."""
    obj = workflow(
        state(
            Phase.RUNNING,
            3,
            resumes=Resumes(never_ran=never_ran, total=2),
            steps=steps,
            cluster=RECORDED.model_copy(
                update={"name": names.cluster_name("trip", workflow().uid, 3), "uid": "cluster-3"}
            ),
            **changes.pop("status", {}),
        ),
        **{"spec": spec(recovery=SETTINGS), **changes},
    )
    named = cluster(3, head=None) if kind == "head" else cluster(3)
    submission = None if kind == "head" else job(J.FAILED, 1, "boom")
    return decide(observation_of(obj, named=named, clusters=(named,), submission=submission, run=run), NOW)


@dataclass(frozen=True)
class Counted:
    """A run after the third attempt failed, and how the attempt is counted.

    Attributes:
        never_ran: the attempts before that never owned the run.
        counted: whether the third one is another such attempt.
        without_progress: the epochs of the log, and those attempts.
    """

    run: Any
    never_ran: int
    counted: bool
    without_progress: int


COUNTED = {
    "it owned the run": Counted(read(mine(3), RESUMABLE), 0, False, 0),
    "it owned the run without progress": Counted(read(mine(3, 4), RESUMABLE), 0, False, 4),
    "it owned the run, earlier ones did not": Counted(read(mine(3, 4), RESUMABLE), 2, False, 6),
    "it attached to a live manager": Counted(read(mine(2, 1)), 1, False, 2),
    "an earlier attempt owned the run": Counted(read(mine(2, 1), RESUMABLE), 1, True, 3),
    "the first attempt owned the run": Counted(read(mine(1, 0), RESUMABLE), 0, True, 1),
    "there is no run": Counted(read(), 3, True, 4),
    "another owner released the run": Counted(
        read(view(owner=OTHER, epochs_without_progress=7), RESUMABLE), 1, True, 2
    ),
    "the log is not read": Counted(DOWN, 2, False, 2),
}


@pytest.mark.parametrize("name", COUNTED)
def test_failed_attempt_is_counted(name: str) -> None:
    case = COUNTED[name]
    found = fail_attempt(case.run, case.never_ran).state
    never_ran = case.never_ran + case.counted
    assert found.phase is Phase.RESUMABLE
    assert found.resumes == Resumes(total=2, never_ran=never_ran, without_progress=case.without_progress)
    wait = delay(Backoff(initial_seconds=3, max_seconds=1000), case.without_progress)
    assert found.next_attempt_time == NOW + wait


def test_progress_resets_the_attempts_that_never_ran() -> None:
    found = fail_attempt(read(mine(2), RESUMABLE), 3, steps=SEEN.model_copy(update={"succeeded": 6})).state
    assert (found.resumes.never_ran, found.resumes.without_progress) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "never_ran", "owned", "policy", "kept"),
    [
        pytest.param("submission", 0, True, "Automatic", True, id="only the submission failed"),
        pytest.param("submission", 0, False, "Automatic", True, id="the first that never ran"),
        pytest.param("submission", 1, False, "Automatic", False, id="the second that never ran"),
        pytest.param("submission", 1, True, "Automatic", True, id="it ran, one before did not"),
        pytest.param("submission", 2, True, "Automatic", False, id="it ran, two before did not"),
        pytest.param("submission", 0, True, "Manual", False, id="manual policy"),
        pytest.param("head", 0, True, "Automatic", False, id="the head is lost"),
    ],
)
def test_cluster_is_kept_for_the_next_attempt(kind: str, never_ran: int, owned: bool, policy: str, kept: bool) -> None:
    run = read(mine(3 if owned else 2), RESUMABLE)
    found = fail_attempt(run, never_ran, kind=kind, spec=spec(recovery={**SETTINGS, "policy": policy})).state
    assert found.phase is Phase.RESUMABLE
    assert (found.cluster is not None) is kept
    assert found.submission is None


def test_failure_names_at_most_five_running_steps() -> None:
    steps = tuple(
        StepView(f"s{number}", "s", phase, (), "", 1, 1, 1.0, None, None)
        for number, phase in enumerate([StepPhase.COMMITTED, *[StepPhase.RUNNING] * 7])
    )
    failure = fail_attempt(read(mine(3, steps=steps), RESUMABLE), 0).state.last_failure
    assert failure is not None
    assert failure.running_steps == ("s1", "s2", "s3", "s4", "s5")
    assert (failure.time, failure.reason) == (NOW, "HeadPodLost")


# --- the next attempt ---


def wait_for_attempt(run: Any = None, now: float = NOW, **changes: Any) -> Decision:
    """Return the decision of a round in Resumable, after the second attempt failed."""
    status = {"last_failure": FAILURE, "next_attempt_time": NOW + 100, "epoch": 1, "steps": SEEN}
    fields = {"spec": spec(recovery=SETTINGS), **changes.pop("obj", {})}
    obj = workflow(state(Phase.RESUMABLE, 2, **{**status, **changes}), **fields)
    return decide(observation_of(obj, run=run or read(mine(2), RESUMABLE)), now)


@pytest.mark.parametrize(
    ("annotations", "token", "starts"),
    [
        pytest.param({}, "", False, id="no annotation"),
        pytest.param({names.RESUME_ANNOTATION: "1"}, "", True, id="a first annotation"),
        pytest.param({names.RESUME_ANNOTATION: "1"}, "1", False, id="the same annotation"),
        pytest.param({names.RESUME_ANNOTATION: "2"}, "1", True, id="another annotation"),
        pytest.param({}, "1", False, id="a removed annotation"),
        pytest.param({names.RESUME_ANNOTATION: ""}, "1", False, id="an empty annotation"),
    ],
)
@pytest.mark.parametrize("policy", ["Automatic", "Manual"])
def test_new_annotation_starts_the_attempt_without_delay(
    policy: str, annotations: dict[str, str], token: str, starts: bool
) -> None:
    obj = {"annotations": annotations, "spec": spec(recovery={**SETTINGS, "policy": policy})}
    found = wait_for_attempt(obj=obj, resume_token=token)
    assert found.state.phase is (Phase.PROVISIONING if starts else Phase.RESUMABLE)
    assert found.state.resume_token == (annotations[names.RESUME_ANNOTATION] if starts else token)
    if policy == "Automatic" and not starts:
        assert found.requeue_after == 100.0
    if policy == "Manual" and not starts:
        later = wait_for_attempt(obj=obj, resume_token=token, now=NOW + 100_000)
        assert later.state.phase is Phase.RESUMABLE


@pytest.mark.parametrize(
    ("left", "phase"), [(0.5, Phase.RESUMABLE), (0.0, Phase.PROVISIONING), (-1.0, Phase.PROVISIONING)], ids=str
)
def test_attempt_starts_when_it_is_due(left: float, phase: Phase) -> None:
    found = wait_for_attempt(next_attempt_time=NOW + left)
    assert found.state.phase is phase
    if phase is Phase.RESUMABLE:
        assert found.requeue_after == left


@pytest.mark.parametrize(
    ("run", "never_ran", "failed_before", "exhausted"),
    [
        pytest.param(read(mine(2, 4), RESUMABLE), 0, True, False, id="four epochs"),
        pytest.param(read(mine(2, 5), RESUMABLE), 0, True, True, id="five epochs"),
        pytest.param(read(mine(2, 3), RESUMABLE), 2, True, True, id="three epochs and two attempts"),
        pytest.param(read(mine(2, 3), RESUMABLE), 1, True, False, id="three epochs and one attempt"),
        pytest.param(read(mine(2, 5), RESUMABLE), 0, False, False, id="no attempt failed yet"),
        pytest.param(read(mine(2, 3)), 9, True, False, id="failed drivers, but the manager works"),
        pytest.param(read(mine(2, 5)), 0, True, True, id="five epochs, and the manager works"),
        pytest.param(
            read(view(owner=OTHER, epochs_without_progress=9), RESUMABLE), 0, True, False, id="epochs of another owner"
        ),
    ],
)
def test_resumes_are_exhausted_by_epochs_and_attempts(
    run: Any, never_ran: int, failed_before: bool, exhausted: bool
) -> None:
    found = wait_for_attempt(
        run,
        obj={"spec": spec(recovery={"maxResumes": 5})},
        resumes=Resumes(never_ran=never_ran),
        last_failure=FAILURE if failed_before else None,
        next_attempt_time=NOW,
        epoch=0,
    )
    assert [action.status for action in found.actions if isinstance(action, EndRun)] == ["FAILED"] * exhausted
    assert (found.state.ending is not None) is exhausted
    if exhausted:
        assert found.state.ending is not None
        assert (found.state.ending.status, found.state.ending.reason) == ("FAILED", "ResumesExhausted")


def test_invalid_spec_exhausts_no_limit() -> None:
    found = wait_for_attempt(
        read(mine(99, 99), RESUMABLE),
        obj={"spec": None, "refusal": "spec.recovery: remove x"},
        resumes=Resumes(never_ran=99),
        last_failure=FAILURE,
        next_attempt_time=NOW,
        epoch=0,
    )
    assert found.state.phase is Phase.RESUMABLE
    assert found.state.reason == "InvalidSpec"
    assert not [action for action in found.actions if isinstance(action, EndRun)]


def test_invalid_spec_ends_no_running_attempt() -> None:
    obj = workflow(state(Phase.RUNNING), spec=None, refusal="spec.recovery: remove x")
    found = decide(
        observation_of(obj, named=cluster(), run=read(view(epochs_without_progress=99)), submission=job()), NOW
    )
    assert found.state.phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("due", "phase_time", "now", "ended"),
    [
        pytest.param(NOW, NOW - 5000, NOW + 1799, False, id="due later than the phase"),
        pytest.param(NOW, NOW - 5000, NOW + 1800, True, id="due later than the phase, over"),
        pytest.param(NOW - 5000, NOW, NOW + 1799, False, id="phase later than due"),
        pytest.param(NOW - 5000, NOW, NOW + 1800, True, id="phase later than due, over"),
    ],
)
def test_blocked_attempt_without_a_run_has_a_deadline(due: float, phase_time: float, now: float, ended: bool) -> None:
    obj = {"spec": None, "refusal": "spec.entrypoint: no"}
    found = wait_for_attempt(read(), obj=obj, next_attempt_time=due, phase_time=phase_time, now=now, epoch=0)
    assert any(isinstance(action, EndRun) for action in found.actions) is ended


# --- cancellation ---


def cancel(run: Any, **changes: Any) -> Decision:
    """Return the decision of a round in Canceling with a live cluster."""
    obj = workflow(state(Phase.CANCELING, **changes), spec=spec(cancel=True))
    return decide(observation_of(obj, run=run, named=cluster(), clusters=(cluster(),)), NOW)


CANCELED = Ending(status="CANCELED", reason="Canceled", message="spec.cancel is true")


@pytest.mark.parametrize(
    ("run", "changes", "asks_manager"),
    [
        pytest.param(read(view()), {}, True, id="live manager"),
        pytest.param(read(view()), {"cancel_time": NOW - 59.5}, True, id="asked 59.5 s ago"),
        pytest.param(read(view()), {"cancel_time": NOW - 60}, False, id="asked 60 s ago"),
        pytest.param(read(view(), RESUMABLE), {}, False, id="heartbeat expired"),
        pytest.param(read(view()), {"ending": CANCELED}, False, id="the end was decided before"),
        pytest.param(read(), {}, False, id="no run"),
    ],
)
def test_cancellation_asks_the_manager_or_ends_the_run(run: Any, changes: Any, asks_manager: bool) -> None:
    found = cancel(run, **changes)
    acts = [action for action in found.actions if isinstance(action, (EndRun, RequestCancel))]
    assert len(acts) == 1
    act = acts[0]
    assert (act.run.run_number, act.run.uid, act.run.attempt) == (1, workflow().uid, 1)
    assert act.reason == ("spec.cancel is true" if asks_manager else "Canceled")
    if isinstance(act, EndRun):
        assert found.state.ending == CANCELED
        assert (act.status, act.message) == ("CANCELED", "spec.cancel is true")
    assert isinstance(act, RequestCancel) is asks_manager
    assert found.requeue_after == (0.5 if changes.get("cancel_time") == NOW - 59.5 else 2.0)
