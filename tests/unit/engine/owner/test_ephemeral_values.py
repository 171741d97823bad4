"""Ephemeral values in an owned run: which steps receive them, when they are released, and what a loss repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support import invariants, runs
from tests.support.fake_runner import expanded, inputs_lost, raised, returned, returned_ephemeral
from tests.support.managers import ManagerFixture, new_run, run_to_result, with_timeout
from tests.support.waiting import eventually
from workflow.engine.messages import StepResult, StepTask
from workflow.model import records as r
from workflow.model.graph import Graph, StepOptions
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run

NO_CHECKPOINT = StepOptions(checkpoint=False)


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


def by_checkpoint(task: StepTask) -> StepResult:
    """Return a value as a worker does: a stored one or an ephemeral one, by the checkpoint option of the task."""
    return returned(task.step_id) if task.checkpoint else returned_ephemeral(task.step_id)


def graph_without_checkpoints(text: str, *step_ids: str) -> Graph:
    return runs.graph(text, **dict.fromkeys(step_ids, NO_CHECKPOINT))


def kinds(fixture: ManagerFixture, *wanted: type[r.Record]) -> list[tuple[str, str]]:
    """Return the kind and the step id of each record of these kinds, in order."""
    log = [each.record for each in invariants.log_of(fixture.inner, "w")]
    return [(type(each).__name__, getattr(each, "step_id", "")) for each in log if isinstance(each, wanted)]


async def test_ephemeral_value_reaches_consumers_but_no_record(fixture: ManagerFixture) -> None:
    dag = graph_without_checkpoints("a b:a c:a d:b,c", "a", "b")
    async with fixture.manager(script=by_checkpoint) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    (received,) = runner.last_attempt("c").task.ephemeral_inputs.values()
    assert received.value == runs.value("a")
    assert runner.last_attempt("d").task.ephemeral_inputs.keys() == {"b"}
    assert [parent.ephemeral_step for parent in runner.last_attempt("d").task.parents] == ["b", ""]
    assert kinds(fixture, r.StepCommitted, r.StepReturnedEphemeral) == [
        ("StepReturnedEphemeral", "a"), ("StepReturnedEphemeral", "b"), ("StepCommitted", "c"), ("StepCommitted", "d"),
    ]  # fmt: skip
    view = read_run(fixture.inner, "w")
    assert view is not None
    assert {step.phase for step in view.steps} == {StepPhase.COMMITTED}
    assert view.counts.succeeded == 4
    invariants.check(fixture.inner, "w")


async def test_output_of_the_run_is_always_stored(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> StepResult:
        return expanded(graph_without_checkpoints("x/a x/b:x/a", "x/b")) if task.step_id == "x" else by_checkpoint(task)

    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(graph_without_checkpoints("x", "x")))
    assert ended.outcome is not None
    assert ended.outcome.value == runs.value("x/b")
    assert kinds(fixture, r.StepCommitted, r.StepReturnedEphemeral) == [
        ("StepReturnedEphemeral", "x/a"),
        ("StepCommitted", "x/b"),
    ]
    assert not runner.last_attempt("x/a").task.checkpoint
    invariants.check(fixture.inner, "w")


async def test_ephemeral_value_is_released_after_its_consumers(fixture: ManagerFixture) -> None:
    dag = graph_without_checkpoints("a b:a c:a d:b,c", "a")
    script: Callable[[StepTask], StepResult | None] = lambda task: by_checkpoint(task) if task.step_id == "a" else None  # noqa: E731
    async with fixture.manager(script=script) as (manager, runner):
        created = new_run(dag)
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: len(runner.attempts) == 3)
        loop = runner.attempts[0].run
        assert loop._planner._ephemeral_values.keys() == {"a"}
        runner.last_attempt("b").answer(returned())
        await eventually(lambda: loop.state.steps["b"].is_finished)
        assert loop._planner._ephemeral_values.keys() == {"a"}
        runner.last_attempt("c").answer(raised("c"))
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.status is WorkflowStatus.FAILED
    assert not loop._planner._ephemeral_values


async def test_claim_repeats_only_steps_with_needed_values(fixture: ManagerFixture) -> None:
    dag = graph_without_checkpoints("a b:a c b2:c d:b,b2", "a", "c")
    script: Callable[[StepTask], StepResult | None] = lambda task: (  # noqa: E731
        None if task.step_id == "b2" else by_checkpoint(task)
    )
    async with fixture.manager(script=script) as (manager, runner):
        created = new_run(dag)
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: "b2" in runner.started and "b" in invariants.committed(fixture.inner, "w"))
        await fixture.abandon(manager)
    async with fixture.manager(incarnation="i2", script=by_checkpoint) as (manager, runner):
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.started == ["c", "b2", "d"]
    invariants.check(fixture.inner, "w")


async def test_lost_value_is_computed_again_and_stored(fixture: ManagerFixture) -> None:
    dag = graph_without_checkpoints("a b:a c:b d:b e:c,d", "a", "b")

    def script(task: StepTask) -> StepResult | None:
        if task.step_id in ("c", "d") and task.attempt == 1:
            return inputs_lost("b") if task.step_id == "c" else None
        return by_checkpoint(task)

    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert Counter(runner.started) == {"a": 2, "b": 2, "c": 2, "d": 2, "e": 1}
    assert runner.stopped == ["d"]
    assert kinds(fixture, r.StepEphemeralLost) == [("StepEphemeralLost", "b"), ("StepEphemeralLost", "a")]
    assert kinds(fixture, r.StepCommitted)[:2] == [("StepCommitted", "a"), ("StepCommitted", "b")]
    assert not runner.last_attempt("c").task.ephemeral_inputs
    invariants.check(fixture.inner, "w")


@pytest.mark.parametrize(
    ("raises", "status"),
    [(1, WorkflowStatus.SUCCESSFUL), (2, WorkflowStatus.FAILED)],
    ids=["one exception of two attempts", "two exceptions of two attempts"],
)
async def test_loss_does_not_count_as_an_attempt(fixture: ManagerFixture, raises: int, status: WorkflowStatus) -> None:
    answers: dict[str, list[StepResult | None]] = {
        "b": [inputs_lost("a"), *[raised("b")] * raises, returned()],
        "c": [None, raised("c"), returned()],
    }

    def script(task: StepTask) -> StepResult | None:
        return answers[task.step_id].pop(0) if task.step_id in answers else by_checkpoint(task)

    twice = StepOptions(max_retries=2)
    dag = runs.graph("a b:a c:a d:b,c", a=NO_CHECKPOINT, b=twice, c=twice)
    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert ended.status is status
    assert runner.stopped[:1] == ["c"]
    numbers = [each.task.attempt for each in runner.attempts if each.task.step_id == "b"]
    assert numbers == list(range(1, 4)), "each attempt has its own number"
    log = [each.record for each in invariants.log_of(fixture.inner, "w")]
    starts = [each for each in log if isinstance(each, r.StepStarted) and each.step_id == "b"]
    assert [each.failed_attempts for each in starts] == [0, 0, 1]
    invariants.check(fixture.inner, "w")


async def test_loss_reported_by_two_steps_is_handled_once(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> StepResult | None:
        return None if task.step_id in ("b", "c") and task.attempt == 1 else by_checkpoint(task)

    async with fixture.manager(script=script) as (manager, runner):
        created = new_run(graph_without_checkpoints("a b:a c:a d:b,c", "a"))
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: len(runner.attempts) == 3)
        first = [runner.last_attempt("b"), runner.last_attempt("c")]
        for each in first:
            each.answer(inputs_lost("a"))
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert Counter(runner.started) == {"a": 2, "b": 2, "c": 2, "d": 1}
    invariants.check(fixture.inner, "w")


async def test_expansion_is_stored_without_checkpoint(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> StepResult | None:
        if task.step_id == "x":
            return expanded(runs.graph("x/a x/b:x/a"))
        return None if task.step_id == "x/b" else by_checkpoint(task)

    async with fixture.manager(script=script) as (manager, runner):
        created = new_run(graph_without_checkpoints("x y:x", "x"))
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: "x/b" in runner.started)
        await fixture.abandon(manager)
    async with fixture.manager(incarnation="i2", script=by_checkpoint) as (manager, runner):
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.started == ["x/a", "x/b", "y"]
    assert kinds(fixture, r.StepExpanded) == [("StepExpanded", "x")]
    invariants.check(fixture.inner, "w")
