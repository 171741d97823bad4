"""Steps without a checkpoint in an owned run: who gets their values, how long they are held, what a loss costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support import invariants, runs
from tests.support.fake_runner import expanded, missing, passed, raised, returned
from tests.support.managers import House, finish, new_run, soon
from tests.support.waiting import eventually
from workflow.engine.messages import StepResult, StepTask
from workflow.model import records as r
from workflow.model.graph import Graph, StepOptions
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run

SKIP = StepOptions(checkpoint=False)


@pytest.fixture
def house() -> House:
    return House()


def obeys(task: StepTask) -> StepResult:
    """What a worker returns: a value that is stored or not, as the task says."""
    return returned(task.step_id) if task.checkpoint else passed(task.step_id)


def skipping(text: str, *step_ids: str) -> Graph:
    return runs.graph(text, **dict.fromkeys(step_ids, SKIP))


def kinds(house: House, *wanted: type[r.Record]) -> list[tuple[str, str]]:
    """Records of these kinds, in order: (kind, step)."""
    log = [each.record for each in invariants.log_of(house.inner, "w")]
    return [(type(each).__name__, getattr(each, "step_id", "")) for each in log if isinstance(each, wanted)]


async def test_a_value_that_is_not_stored_reaches_who_takes_it_and_is_in_no_record(house: House) -> None:
    dag = skipping("a b:a c:a d:b,c", "a", "b")
    async with house.manager(script=obeys) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    (taken,) = runner.of("c").task.ephemeral_inputs.values()
    assert taken.value == runs.value("a")
    assert runner.of("d").task.ephemeral_inputs.keys() == {"b"}
    assert [parent.held for parent in runner.of("d").task.parents] == ["b", ""]
    assert kinds(house, r.StepCommitted, r.StepReturnedEphemeral) == [
        ("StepReturnedEphemeral", "a"), ("StepReturnedEphemeral", "b"), ("StepCommitted", "c"), ("StepCommitted", "d"),
    ]  # fmt: skip
    view = read_run(house.inner, "w")
    assert view is not None
    assert {step.phase for step in view.steps} == {StepPhase.COMMITTED}
    assert view.counts.succeeded == 4
    invariants.check(house.inner, "w")


async def test_the_runs_own_value_is_stored(house: House) -> None:
    def script(task: StepTask) -> StepResult:
        return expanded(skipping("x/a x/b:x/a", "x/b")) if task.step_id == "x" else obeys(task)

    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(skipping("x", "x")))
    assert ended.outcome is not None
    assert ended.outcome.value == runs.value("x/b")
    assert kinds(house, r.StepCommitted, r.StepReturnedEphemeral) == [
        ("StepReturnedEphemeral", "x/a"),
        ("StepCommitted", "x/b"),
    ]
    assert not runner.of("x/a").task.checkpoint
    invariants.check(house.inner, "w")


async def test_a_value_is_let_go_once_all_that_take_it_have_their_outcome(house: House) -> None:
    dag = skipping("a b:a c:a d:b,c", "a")
    script: Callable[[StepTask], StepResult | None] = lambda task: obeys(task) if task.step_id == "a" else None  # noqa: E731
    async with house.manager(script=script) as (manager, runner):
        created = new_run(dag)
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: len(runner.tries) == 3)
        loop = runner.tries[0].run
        assert loop._planner._held.keys() == {"a"}
        runner.of("b").answer(returned())
        await eventually(lambda: loop.state.steps["b"].is_finished)
        assert loop._planner._held.keys() == {"a"}
        runner.of("c").answer(raised("c"))
        ended = await soon(manager.wait(house.address(created)))
    assert ended.status is WorkflowStatus.FAILED
    assert not loop._planner._held


async def test_after_a_claim_only_what_is_still_needed_runs_again(house: House) -> None:
    dag = skipping("a b:a c b2:c d:b,b2", "a", "c")
    script: Callable[[StepTask], StepResult | None] = lambda task: (  # noqa: E731
        None if task.step_id == "b2" else obeys(task)
    )
    async with house.manager(script=script) as (manager, runner):
        created = new_run(dag)
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: "b2" in runner.started and "b" in invariants.committed(house.inner, "w"))
        await house.abandon(manager)
    async with house.manager(incarnation="i2", script=obeys) as (manager, runner):
        ended = await soon(manager.wait(house.address(created)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.started == ["c", "b2", "d"]
    invariants.check(house.inner, "w")


async def test_a_lost_value_is_made_again_and_then_stored_and_no_outcome_comes_twice(house: House) -> None:
    dag = skipping("a b:a c:b d:b e:c,d", "a", "b")

    def script(task: StepTask) -> StepResult | None:
        if task.step_id in ("c", "d") and task.attempt == 1:
            return missing("b") if task.step_id == "c" else None
        return obeys(task)

    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert Counter(runner.started) == {"a": 2, "b": 2, "c": 2, "d": 2, "e": 1}
    assert runner.stopped == ["d"]
    assert kinds(house, r.StepEphemeralLost) == [("StepEphemeralLost", "b"), ("StepEphemeralLost", "a")]
    assert kinds(house, r.StepCommitted)[:2] == [("StepCommitted", "a"), ("StepCommitted", "b")]
    assert not runner.of("c").task.ephemeral_inputs
    invariants.check(house.inner, "w")


@pytest.mark.parametrize(
    ("raises", "status"),
    [(1, WorkflowStatus.SUCCESSFUL), (2, WorkflowStatus.FAILED)],
    ids=["one exception leaves one try", "two leave none"],
)
async def test_a_loss_is_no_try_of_who_finds_it_or_is_interrupted_by_it(
    house: House, raises: int, status: WorkflowStatus
) -> None:
    answers: dict[str, list[StepResult | None]] = {
        "b": [missing("a"), *[raised("b")] * raises, returned()],
        "c": [None, raised("c"), returned()],
    }

    def script(task: StepTask) -> StepResult | None:
        return answers[task.step_id].pop(0) if task.step_id in answers else obeys(task)

    twice = StepOptions(max_retries=2)
    dag = runs.graph("a b:a c:a d:b,c", a=SKIP, b=twice, c=twice)
    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert ended.status is status
    assert runner.stopped[:1] == ["c"]
    numbers = [each.task.attempt for each in runner.tries if each.task.step_id == "b"]
    assert numbers == list(range(1, 4)), "each try is known by its own number"
    log = [each.record for each in invariants.log_of(house.inner, "w")]
    begun = [each for each in log if isinstance(each, r.StepStarted) and each.step_id == "b"]
    assert [each.failed_attempts for each in begun] == [0, 0, 1]
    invariants.check(house.inner, "w")


async def test_one_loss_that_two_tell_of_is_one_loss(house: House) -> None:
    def script(task: StepTask) -> StepResult | None:
        return None if task.step_id in ("b", "c") and task.attempt == 1 else obeys(task)

    async with house.manager(script=script) as (manager, runner):
        created = new_run(skipping("a b:a c:a d:b,c", "a"))
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: len(runner.tries) == 3)
        first = [runner.of("b"), runner.of("c")]
        for each in first:
            each.answer(missing("a"))
        ended = await soon(manager.wait(house.address(created)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert Counter(runner.started) == {"a": 2, "b": 2, "c": 2, "d": 1}
    invariants.check(house.inner, "w")


async def test_what_a_dynamic_step_returned_is_stored_whatever_its_checkpoint(house: House) -> None:
    def script(task: StepTask) -> StepResult | None:
        if task.step_id == "x":
            return expanded(runs.graph("x/a x/b:x/a"))
        return None if task.step_id == "x/b" else obeys(task)

    async with house.manager(script=script) as (manager, runner):
        created = new_run(skipping("x y:x", "x"))
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: "x/b" in runner.started)
        await house.abandon(manager)
    async with house.manager(incarnation="i2", script=obeys) as (manager, runner):
        ended = await soon(manager.wait(house.address(created)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.started == ["x/a", "x/b", "y"]
    assert kinds(house, r.StepExpanded) == [("StepExpanded", "x")]
    invariants.check(house.inner, "w")
