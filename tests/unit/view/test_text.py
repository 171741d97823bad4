"""`workflow.view.as_text`: what a reader sees of a run."""

from __future__ import annotations

from workflow.model.run_view import ErrorInfo, RunView, StepCounts, StepView
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.view import as_text


def a_step(step_id: str, parents: tuple[str, ...] = (), inside: str = "", **facts: object) -> StepView:
    given: dict[str, object] = {
        "phase": StepPhase.COMMITTED,
        "tries": 1,
        "epoch": 1,
        "started": 10.0,
        "ended": 11.5,
        "error": None,
        **facts,
    }
    return StepView(step_id, step_id, parents=parents, parent_expansion=inside, **given)  # type: ignore[arg-type]


def a_run(*steps: StepView) -> RunView:
    return RunView(
        workflow_id="trip",
        run_number=1,
        run_uuid="u",
        status=WorkflowStatus.RUNNING,
        epoch=2,
        owner=None,
        created=9.0,
        ended=None,
        reason="",
        error=None,
        counts=StepCounts(len(steps), 1, 0, 0),
        steps=steps,
        result_text=None,
        epochs_without_progress=0,
        suspect_steps=(),
        next_seq=1,
    )


def test_a_dynamic_step_with_its_children() -> None:
    drawn = as_text(
        a_run(
            a_step("book"),
            a_step("book/fly", inside="book", tries=2),
            a_step("book/fly_1", inside="book", phase=StepPhase.RUNNING, epoch=2, ended=None),
            a_step("book/pay", ("book/fly", "book/fly_1"), "book", phase=StepPhase.WAITING, epoch=0, started=None),
        )
    )
    assert drawn.splitlines() == [
        "trip  RUNNING  1 of 4 steps  epoch 2",
        "book      committed  epoch 1    1.5 s",
        "├─ fly    committed  epoch 1    1.5 s  (2 tries)",
        "├─ fly_1  running    epoch 2",
        "└─ pay    waiting                      <- fly, fly_1",
    ]


def test_a_failed_step_says_why() -> None:
    error = ErrorInfo("ValueError", "no seat left")
    drawn = as_text(a_run(a_step("fly", phase=StepPhase.FAILED, error=error)))
    assert drawn.endswith("ValueError: no seat left")


def test_a_deep_recursion_stays_on_the_screen_and_off_the_stack() -> None:
    ids = ["down" + "/down" * depth for depth in range(3000)]
    steps = [a_step(own, inside=ids[depth - 1] if depth else "") for depth, own in enumerate(ids)]
    lines = as_text(a_run(*steps)).splitlines()
    assert len(lines) == 3001
    assert max(map(len, lines)) < 100


def test_a_run_without_steps_is_one_line() -> None:
    assert as_text(a_run()) == "trip  RUNNING  1 of 0 steps  epoch 2"
