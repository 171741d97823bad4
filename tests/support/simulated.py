"""Arbitrary runs for property tests: sequences of segments that an owner and its successors may write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.support import runs
from workflow.model import ephemeral, failure, fold, ids
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value, WaitOptions
from workflow.model.state import RunState, StepState
from workflow.model.status import WorkflowStatus

MOST_STEPS = 40


@dataclass
class SimulatedRun:
    """The segments of a run, and the state to which they fold."""

    created: r.Created
    dag: Graph
    state: RunState
    segments: list[list[r.Record]] = field(default_factory=list)

    def fresh(self) -> RunState:
        """Return the state before the first segment."""
        return fold.begin(self.created, self.dag)

    def write(self, records: list[r.Record]) -> None:
        """Append a segment, and fold it."""
        self.segments.append(records)
        for record in records:
            fold.apply(self.state, len(self.segments), record)


@st.composite
def dags(draw: st.DrawFn, parent: str = "", left_over: tuple[str, ...] = ()) -> Graph:
    """Draw a DAG of up to four steps, all of which lead to the last one, as the encoder creates them.

    Args:
        draw: hypothesis' source of choices.
        parent: the dynamic step that returns the DAG, or empty.
        left_over: steps of the run that waits left over, which steps of the DAG may take.
    """
    size = draw(st.integers(1, 4))
    step_ids = ids.place(parent, ["s"] * size)
    steps: list[StepSpec] = []
    without_child: set[str] = set()
    for index, step_id in enumerate(step_ids):
        parents = draw(st.sets(st.sampled_from(step_ids[:index]))) if index else set()
        if index == size - 1:
            parents |= without_child
        without_child = (without_child - parents) | {step_id}
        if parents and draw(st.integers(0, 3)) == 0:
            steps.append(_waiter(draw, step_id, tuple(sorted(parents))))
            continue
        if left_over:
            parents |= draw(st.sets(st.sampled_from(left_over), max_size=2))
        options = StepOptions(
            catch_exceptions=draw(st.booleans()), checkpoint=draw(st.sampled_from([False, None, True]))
        )
        kind = draw(st.sampled_from(_KINDS)) if not parents else StepKind.TASK
        if kind is StepKind.SLEEP:
            steps.append(runs.sleeper(step_id, 7.0, options=options))
        else:
            args = runs.value(step_id)
            steps.append(StepSpec(step_id, "s", "f" * 64, "m.s", args, tuple(sorted(parents)), options, kind=kind))
    return Graph(tuple(steps), step_ids[-1])


_KINDS = (StepKind.TASK, StepKind.TASK, StepKind.TASK, StepKind.EVENT, StepKind.SLEEP)


def _waiter(draw: Any, step_id: str, parents: tuple[str, ...]) -> StepSpec:
    wait = WaitOptions(draw(st.integers(1, len(parents))), draw(st.sampled_from([None, 3.0])))
    return StepSpec(step_id, "w", "", "m.w", Value(), parents, StepOptions(), kind=StepKind.WAIT, wait=wait)


@st.composite
def simulated_runs(draw: st.DrawFn) -> SimulatedRun:
    """Draw a run with up to 40 segments, which may be finished."""
    dag = draw(dags())
    created = runs.created(dag)
    run = SimulatedRun(created, dag, fold.begin(created, dag))
    for _ in range(draw(st.sampled_from([40, 20, 10, 5, 0]))):
        _ACTIONS[draw(st.sampled_from(sorted(_ACTIONS)))](draw, run)
    return run


def _start(draw: Any, run: SimulatedRun) -> None:
    ready = [*run.state.ready, *run.state.waits]
    if ready and not run.state.is_finished:
        chosen = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=3, unique=True))
        run.write([_start_record(run.state, step_id) for step_id in chosen])
        _finish(run)


def _start_record(state: RunState, step_id: str) -> r.Record:
    step = state.steps[step_id]
    if step.spec.kind is StepKind.WAIT and step.has_inputs:
        return decision(state, step)
    if step.spec.timer is not None:
        return r.TimerSet(step_id, state.epoch, 2.0, 2.0 + step.spec.timer)
    return runs.started(step_id, state.epoch)


def decision(state: RunState, step: StepState) -> r.WaitDecided:
    """Return the decision of a wait that ends now."""
    assert step.spec.wait is not None
    done = [parent for parent in step.spec.parents if state.steps[parent].outcome is not None]
    return r.WaitDecided(step.spec.step_id, state.epoch, tuple(done[: step.spec.wait.num_returns]), ended=3.0)


def _finish(run: SimulatedRun) -> None:
    """Write the end of a run whose output has its outcome."""
    state = run.state
    assert state.output is not None
    if not state.is_finished and state.output.outcome is not None:
        canceled = failure.cancellations(state, failure.left_over(state), "left over")
        run.write([*canceled, r.StatusChanged(WorkflowStatus.SUCCESSFUL, state.epoch, 5.0)])


def _retry(draw: Any, run: SimulatedRun) -> None:
    running = list(run.state.running.values())
    if running and not run.state.is_finished:
        step = draw(st.sampled_from(running))
        step_id, epoch, attempt, failures = (
            step.spec.step_id,
            run.state.epoch,
            step.attempt + 1,
            step.failed_attempts + 1,
        )
        error = draw(st.sampled_from([runs.failed(step_id).error, None]))
        run.write([r.StepStarted(step_id, epoch, attempt, 2.0, failures, error)])


def _commit(draw: Any, run: SimulatedRun) -> None:
    active = [*run.state.running.values(), *run.state.sleeping.values()]
    if not active or run.state.is_finished:
        return
    step = draw(st.sampled_from(active))
    if step.spec.kind is StepKind.WAIT:
        run.write([decision(run.state, step)])
        _finish(run)
        return
    is_stored = step.checkpointed or not step.needs_worker
    record = runs.committed if is_stored else runs.returned_ephemeral
    run.write([record(step.spec.step_id, run.state.epoch, attempt=step.attempt)])
    _finish(run)


def _lose(draw: Any, run: SimulatedRun) -> None:
    needed = [step_id for step_id, consumers in run.state.ephemeral.items() if consumers > 0]
    if needed and not run.state.is_finished:
        lost_ids = draw(st.lists(st.sampled_from(needed), min_size=1, max_size=2, unique=True))
        lost = ephemeral.lost(run.state, lost_ids)
        run.write([r.StepEphemeralLost(step.spec.step_id, run.state.epoch) for step in lost])


def _expand(draw: Any, run: SimulatedRun) -> None:
    running = list(run.state.running.values())
    if running and not run.state.is_finished and len(run.state.steps) < MOST_STEPS:
        step = draw(st.sampled_from(running))
        step_id = step.spec.step_id
        dag = draw(dags(parent=step_id, left_over=_left_over_for(run.state, step)))
        if failure.failed_input(run.state, dag) is None:
            run.write([runs.expanded(step_id, dag, run.state.epoch)])
        else:
            _write_failure(run, step)


def _left_over_for(state: RunState, step: StepState) -> tuple[str, ...]:
    """Return the steps to which a step may refer, because a wait whose decision it takes left them over."""
    outcomes = [state.steps[parent].outcome for parent in step.spec.parents]
    return tuple(each for found in outcomes if found and found.waited for each in found.waited.remaining)


def _fail(draw: Any, run: SimulatedRun) -> None:
    running = list(run.state.running.values())
    if running and not run.state.is_finished:
        _write_failure(run, draw(st.sampled_from(running)))


def _write_failure(run: SimulatedRun, step: StepState) -> None:
    record = runs.failed(step.spec.step_id, run.state.epoch, step.attempt)
    run.write(failure.consequences(run.state, step, record, runs.value("error")))
    _finish(run)


def _claim(draw: Any, run: SimulatedRun) -> None:
    terminal = run.state.terminal
    if terminal is None:
        functions = draw(st.dictionaries(st.sampled_from(["one", "two"]), st.sampled_from(["new", "newer"])))
        run.write([runs.claimed(run.state.epoch + 1, **functions)])
    elif terminal[1].status is WorkflowStatus.FAILED:
        run.write([runs.claimed(run.state.epoch + 1, retry_failed=terminal[0])])


def _release(draw: Any, run: SimulatedRun) -> None:
    if not run.state.is_finished and not run.state.released:
        epoch = run.state.epoch + 1
        run.write([runs.claimed(epoch), r.StatusChanged(WorkflowStatus.RESUMABLE, epoch, 5.0, "Left")])


def _handle_request(draw: Any, run: SimulatedRun) -> None:
    run.write([r.RequestHandled(f"request-{len(run.segments)}", run.state.epoch, "done")])


_ACTIONS = {
    "claim": _claim,
    "commit": _commit,
    "commit more": _commit,
    "commit most": _commit,
    "expand": _expand,
    "fail": _fail,
    "release": _release,
    "lose": _lose,
    "retry": _retry,
    "start": _start,
    "start more": _start,
    "start most": _start,
    "handle request": _handle_request,
}
