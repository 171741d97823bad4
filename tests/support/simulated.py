"""A small simulated run: an arbitrary sequence of segments that an owner, and the owners after it, may write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.support import runs
from workflow.model import ephemeral, failure, fold, ids
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus

MOST_STEPS = 40


@dataclass
class SimulatedRun:
    """What was written, and the state that it folds to."""

    created: r.Created
    dag: Graph
    state: RunState
    segments: list[list[r.Record]] = field(default_factory=list)

    def fresh(self) -> RunState:
        """The state before the first segment."""
        return fold.begin(self.created, self.dag)

    def write(self, records: list[r.Record]) -> None:
        """Store a segment."""
        self.segments.append(records)
        for record in records:
            fold.apply(self.state, len(self.segments), record)


@st.composite
def dags(draw: st.DrawFn, parent: str = "") -> Graph:
    """A DAG of up to four steps, all of which lead to the last, as the encoder makes them."""
    size = draw(st.integers(1, 4))
    step_ids = ids.place(parent, ["s"] * size)
    steps: list[StepSpec] = []
    pending_recovery: set[str] = set()
    for index, step_id in enumerate(step_ids):
        parents = draw(st.sets(st.sampled_from(step_ids[:index]))) if index else set()
        if index == size - 1:
            parents |= pending_recovery
        pending_recovery = (pending_recovery - parents) | {step_id}
        options = StepOptions(
            catch_exceptions=draw(st.booleans()), checkpoint=draw(st.sampled_from([False, None, True]))
        )
        kind = draw(st.sampled_from([StepKind.TASK, StepKind.TASK, *StepKind])) if not parents else StepKind.TASK
        if kind is StepKind.SLEEP:
            steps.append(runs.sleeper(step_id, 7.0, options=options))
        else:
            args, after = runs.value(step_id), tuple(sorted(parents))
            steps.append(StepSpec(step_id, "s", "f" * 64, "m.s", args, after, options, kind=kind))
    return Graph(tuple(steps), step_ids[-1])


@st.composite
def simulated_runs(draw: st.DrawFn) -> SimulatedRun:
    """A run with up to 40 segments, ended or not."""
    dag = draw(dags())
    created = runs.created(dag)
    run = SimulatedRun(created, dag, fold.begin(created, dag))
    for _ in range(draw(st.sampled_from([40, 20, 10, 5, 0]))):
        _ACTS[draw(st.sampled_from(sorted(_ACTS)))](draw, run)
    return run


def _start(draw: Any, run: SimulatedRun) -> None:
    ready = [*run.state.ready, *run.state.waits]
    if ready and not run.state.is_finished:
        chosen = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=3, unique=True))
        run.write([_begin(run.state, step_id) for step_id in chosen])


def _begin(state: RunState, step_id: str) -> r.Record:
    step = state.steps[step_id]
    if step.spec.kind is StepKind.SLEEP:
        return r.TimerSet(step_id, state.epoch, 2.0, 2.0 + step.spec.seconds)
    return runs.started(step_id, state.epoch)


def _retry(draw: Any, run: SimulatedRun) -> None:
    running = list(run.state.running.values())
    if running and not run.state.is_finished:
        step = draw(st.sampled_from(running))
        run.write([runs.started(step.spec.step_id, run.state.epoch, step.attempt + 1)])


def _commit(draw: Any, run: SimulatedRun) -> None:
    begun = [*run.state.running.values(), *run.state.sleeping.values()]
    if not begun or run.state.is_finished:
        return
    step = draw(st.sampled_from(begun))
    how = runs.committed if step.checkpointed or not step.needs_worker else runs.passed
    run.write([how(step.spec.step_id, run.state.epoch, attempt=step.attempt)])
    assert run.state.output is not None
    if run.state.output.outcome is not None:
        run.write([r.StatusChanged(WorkflowStatus.SUCCESSFUL, run.state.epoch, 5.0)])


def _lose(draw: Any, run: SimulatedRun) -> None:
    needed = [step_id for step_id, takers in run.state.ephemeral.items() if takers]
    if needed and not run.state.is_finished:
        gone = draw(st.lists(st.sampled_from(needed), min_size=1, max_size=2, unique=True))
        lost = ephemeral.lost(run.state, gone)
        run.write([r.StepEphemeralLost(step.spec.step_id, run.state.epoch) for step in lost])


def _expand(draw: Any, run: SimulatedRun) -> None:
    running = list(run.state.running.values())
    if running and not run.state.is_finished and len(run.state.steps) < MOST_STEPS:
        step_id = draw(st.sampled_from(running)).spec.step_id
        run.write([runs.expanded(step_id, draw(dags(parent=step_id)), run.state.epoch)])


def _fail(draw: Any, run: SimulatedRun) -> None:
    running = list(run.state.running.values())
    if not running or run.state.is_finished:
        return
    step = draw(st.sampled_from(running))
    record = runs.failed(step.spec.step_id, run.state.epoch, step.attempt)
    records = failure.consequences(run.state, step, record, runs.value("error"))
    run.write(records)
    assert run.state.output is not None
    if not run.state.is_finished and run.state.output.outcome is not None:
        run.write([r.StatusChanged(WorkflowStatus.SUCCESSFUL, run.state.epoch, 5.0)])


def _claim(draw: Any, run: SimulatedRun) -> None:
    end = run.state.terminal
    if end is None:
        functions = draw(st.dictionaries(st.sampled_from(["one", "two"]), st.sampled_from(["new", "newer"])))
        run.write([runs.claimed(run.state.epoch + 1, **functions)])
    elif end[1].status is WorkflowStatus.FAILED:
        run.write([runs.claimed(run.state.epoch + 1, retry_failed=end[0])])


def _goodbye(draw: Any, run: SimulatedRun) -> None:
    if not run.state.is_finished and not run.state.released:
        epoch = run.state.epoch + 1
        run.write([runs.claimed(epoch), r.StatusChanged(WorkflowStatus.RESUMABLE, epoch, 5.0, "Left")])


def _take(draw: Any, run: SimulatedRun) -> None:
    run.write([r.RequestHandled(f"request-{len(run.segments)}", run.state.epoch, "something")])


_ACTS = {
    "claim": _claim,
    "commit": _commit,
    "commit more": _commit,
    "commit most": _commit,
    "expand": _expand,
    "fail": _fail,
    "goodbye": _goodbye,
    "lose": _lose,
    "retry": _retry,
    "start": _start,
    "start more": _start,
    "start most": _start,
    "take": _take,
}
