"""`workflow.view.as_text`: the text that shows a run."""

from __future__ import annotations

from workflow.model.run_view import ErrorInfo, RunView, StepCounts, StepView
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.view import as_text


def step_view(step_id: str, parents: tuple[str, ...] = (), inside: str = "", **fields: object) -> StepView:
    given: dict[str, object] = {
        "phase": StepPhase.COMMITTED,
        "attempts": 1,
        "epoch": 1,
        "started": 10.0,
        "ended": 11.5,
        "error": None,
        **fields,
    }
    return StepView(step_id, step_id, parents=parents, parent_expansion=inside, **given)  # type: ignore[arg-type]


def run_view(*steps: StepView) -> RunView:
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


def test_dynamic_step_is_drawn_with_its_children() -> None:
    drawn = as_text(
        run_view(
            step_view("book"),
            step_view("book/fly", inside="book", attempts=2),
            step_view("book/fly_1", inside="book", phase=StepPhase.RUNNING, epoch=2, ended=None),
            step_view("book/bus", ("book/fly", "book/fly_1"), "book", phase=StepPhase.WAITING, epoch=0, started=None),
        )
    )
    assert drawn.splitlines() == [
        "trip  RUNNING  1 of 4 steps  epoch 2",
        "book      committed  epoch 1    1.5 s",
        "├─ fly    committed  epoch 1    1.5 s  (2 attempts)",
        "├─ fly_1  running    epoch 2",
        "└─ bus    waiting                      <- fly, fly_1",
    ]


def test_failed_step_shows_its_error() -> None:
    error = ErrorInfo("ValueError", "no seat left")
    drawn = as_text(run_view(step_view("fly", phase=StepPhase.FAILED, error=error)))
    assert drawn.endswith("ValueError: no seat left")


def test_deep_recursion_is_drawn_with_limited_indentation() -> None:
    ids = ["down" + "/down" * depth for depth in range(3000)]
    steps = [step_view(own, inside=ids[depth - 1] if depth else "") for depth, own in enumerate(ids)]
    lines = as_text(run_view(*steps)).splitlines()
    assert len(lines) == 3001
    assert max(map(len, lines)) < 100


def test_run_without_steps_is_one_line() -> None:
    assert as_text(run_view()) == "trip  RUNNING  1 of 0 steps  epoch 2"
