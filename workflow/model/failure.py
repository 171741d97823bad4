"""The consequences of a step that raised in its last attempt: which step catches it, and which steps are canceled.

A failure flows to the steps that need the outcome of the failed step, and to the dynamic steps whose output these are.
It ends at each dynamic step that catches exceptions. If it reaches the output of the run, the run fails. It reaches
nothing if a WAIT has left the step over and no other step uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from workflow.model import records as r
from workflow.model.fold import unfinished_below
from workflow.model.graph import Graph, Value
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus


def consequences(state: RunState, step: StepState, failed: r.StepFailed, pickled: Value) -> list[r.Record]:
    """Return the records that a failure causes, in order. They are stored in one segment, so they take effect together.

    Args:
        state: the state before the failure.
        step: the step that raised in its last attempt.
        failed: the record of the failure.
        pickled: the pickled exception, or a pickled substitute for an exception that cannot be pickled.

    Returns:
        If the step catches exceptions, its own `StepCommitted`. Otherwise its `StepFailed`, and a `StepCanceled` for
        each step that will not run. The `StepCommitted` of each dynamic step that catches the exception follows, or
        the change of the run's status to FAILED.
    """
    if step.spec.options.catch_exceptions:
        return [_caught(state, step, failed, pickled)]
    reach = _reach_of(step)
    written: list[r.Record] = [failed]
    reason = f"step {failed.step_id} failed"
    if reach.fails_run:
        canceled = [each for each in state.running.values() if each is not step]
        written += cancellations(state, canceled, reason)
        written.append(r.StatusChanged(WorkflowStatus.FAILED, state.epoch, failed.ended, "StepFailed", failed.error))
        return written
    stopped = {id(each): each for catcher in reach.catchers for each in unfinished_below(catcher)}
    _add_with_sub_dags(stopped, reach.passed)
    stopped.pop(id(step), None)
    written += cancellations(state, stopped.values(), reason)
    written += [_caught(state, each, failed, pickled) for each in reach.catchers if id(each) not in stopped]
    return written


def cancellations(state: RunState, steps: Iterable[StepState], reason: str) -> list[r.Record]:
    """Return a `StepCanceled` for each step."""
    return [r.StepCanceled(step.spec.step_id, state.epoch, reason) for step in steps]


def left_over(state: RunState) -> list[StepState]:
    """Return the unfinished steps of a run whose output has its outcome: those that a WAIT left over."""
    unfinished = sum(count for phase, count in state.phases.items() if phase not in _FINISHED)
    return [step for step in state.steps.values() if not step.is_finished] if unfinished else []


def failed_input(state: RunState, graph: Graph) -> StepState | None:
    """Return the failed step because of which a DAG cannot be executed; None if it can.

    Only what a WAIT left over can have failed before.

    Args:
        state: the state before the DAG is inserted.
        graph: the DAG that a dynamic step returned.
    """
    members = {spec.step_id for spec in graph.steps}
    for spec in graph.steps:
        for parent in spec.parents:
            if parent not in members and state.steps[parent].phase in _STOPPED:
                return _cause_of(state, state.steps[parent])
    return None


_FINISHED = frozenset({StepPhase.COMMITTED, StepPhase.FAILED, StepPhase.CANCELED})
_STOPPED = frozenset({StepPhase.FAILED, StepPhase.CANCELED})


@dataclass
class _Reach:
    """How far a failure flows.

    Attributes:
        fails_run: whether it reaches the output of the run.
        catchers: the dynamic steps that catch it.
        passed: the steps on its way, which will never have an outcome.
        ends_at_wait: whether a WAIT was decided before one of these steps had its outcome.
    """

    fails_run: bool = False
    catchers: list[StepState] = field(default_factory=list)
    passed: list[StepState] = field(default_factory=list)
    ends_at_wait: bool = False


def _reach_of(step: StepState) -> _Reach:
    reach = _Reach()
    seen, pending = {id(step)}, [step]
    while pending:
        each = pending.pop()
        if each is not step:
            reach.passed.append(each)
        if each.scope is None and each.is_run_output:
            reach.fails_run = True
            return reach
        for after in _needing(each):
            reach.ends_at_wait |= after.is_finished and after.spec.wait is not None
            if id(after) in seen or after.is_finished:
                continue
            seen.add(id(after))
            if after is each.resolves and after.spec.options.catch_exceptions:
                reach.catchers.append(after)
            else:
                pending.append(after)
    if not reach.catchers and not reach.ends_at_wait:  # a step without consumers fails the DAG that contains it
        reach.catchers += [step.catcher] if step.catcher is not None else []
        reach.fails_run = step.catcher is None
    return reach


def _add_with_sub_dags(found: dict[int, StepState], steps: Iterable[StepState]) -> None:
    """Add steps, and the unfinished steps of their sub-DAGs. The cost is linear, however deep the sub-DAGs are."""
    pending = [step for step in steps if id(step) not in found]
    while pending:
        step = pending.pop()
        if id(step) not in found and not step.is_finished:
            found[id(step)] = step
            pending += step.members


def _needing(step: StepState) -> Iterator[StepState]:
    yield from step.dependants
    if step.resolves is not None:
        yield step.resolves


def _cause_of(state: RunState, stopped: StepState) -> StepState | None:
    """Return the failed step because of which a step was stopped."""
    seen, pending = {id(stopped)}, [stopped]
    while pending:
        each = pending.pop()
        if each.phase is StepPhase.FAILED:
            return each
        for before in (*(state.steps[parent] for parent in each.spec.parents), *each.members):
            if id(before) not in seen and before.phase in _STOPPED:
                seen.add(id(before))
                pending.append(before)
    return None


def _caught(state: RunState, step: StepState, failed: r.StepFailed, pickled: Value) -> r.StepCommitted:
    # A dynamic step has its own attempt: the one that returned the DAG in which the failed step is.
    attempt = step.attempt if step.phase is StepPhase.EXPANDED else failed.attempt
    return r.StepCommitted(
        step.spec.step_id,
        state.epoch,
        pickled,
        caught=True,
        text=f"(None, {failed.error.kind}: {failed.error.message})",
        attempt=attempt,
        started=step.started or failed.started,
        ended=failed.ended,
    )
