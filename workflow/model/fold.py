"""The fold: how each record changes the state of a run. Only this module changes a `RunState`.

The engine folds each record before it stores it, and `RunLog.replay` folds each record that it reads. The cost is
linear in the number of records, also for a recursion of any depth. A record that the state does not allow raises
CorruptLogError: two owners committed, or the log was edited.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from workflow.errors import CorruptLogError
from workflow.model import ephemeral
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepSpec, Value
from workflow.model.state import Outcome, RunState, StepState, Waited, below
from workflow.model.status import TRANSITIONS, StepPhase, WorkflowStatus

P = StepPhase

_WAITS_FOR_INPUTS: Final = (P.WAITING, P.SLEEPING)
"""Phases in which a step becomes ready when its inputs have outcomes. Of the sleeping steps, only a WAIT has inputs."""


def begin(created: r.Created, graph: Graph) -> RunState:
    """Return the state of a run that was just created.

    Args:
        created: the record of the run.
        graph: its DAG, from the record or from the blob that the record names.
    """
    state = RunState(created=created, epoch=1, owner=created.owner, epoch_started=created.at)
    members = _insert(state, graph, None)
    state.output = members[graph.output]
    state.output.is_run_output = True
    return state


def apply(state: RunState, seq: int, record: r.Record, graph: Graph | None = None) -> None:
    """Fold one record into a state.

    Args:
        state: the state, which is changed in place.
        seq: the number of the segment that contains the record.
        record: the record to fold.
        graph: the DAG of a `StepExpanded` whose record only names a blob.

    Raises:
        CorruptLogError: the state does not allow the record.
    """
    epoch = getattr(record, "epoch", state.epoch)
    if not isinstance(record, r.Claimed) and epoch > state.epoch:
        raise _illegal(state, seq, record, f"its epoch is {epoch}, but the last claimed epoch is {state.epoch}")
    if state.is_finished and not isinstance(record, (r.Claimed, r.RequestHandled)):
        raise _illegal(state, seq, record, "the run is finished")
    if isinstance(record, r.StepExpanded):
        _expanded(state, seq, record, graph or record.graph)
    else:
        handler = _HANDLERS.get(type(record))
        if handler is None:
            raise _illegal(state, seq, record, "segments never contain such a record")
        handler(state, seq, record)
    state.seq = max(state.seq, seq)


def restore(state: RunState, records: list[r.Record]) -> None:
    """Fold a snapshot into the state that `begin` returned.

    Raises:
        CorruptLogError: the snapshot has no header, or the state does not allow one of its records.
    """
    head = records[0] if records else None
    if not isinstance(head, r.SnapshotHeader) or state.seq:
        raise CorruptLogError(
            f"cannot restore run {state.created.run_uuid} of workflow {state.created.workflow_id!r}: a snapshot begins "
            "with its header, and only a new state can be restored; delete the snapshot: the log contains the same"
        )
    state.epoch, state.owner, state.epoch_started = head.epoch, head.owner, head.epoch_started
    for record in records[1:]:
        apply(state, head.seq, record)
    state.seq, state.status, state.released = head.seq, head.status, head.released
    state.epochs_without_progress, state.suspect_steps, state.handled_requests = (
        head.epochs_without_progress,
        head.suspect_steps,
        set(head.handled_requests),
    )
    state.functions = dict(head.functions)


def _claimed(state: RunState, seq: int, record: r.Claimed) -> None:
    if record.epoch != state.epoch + 1:
        raise _illegal(state, seq, record, f"the epoch after {state.epoch} is {state.epoch + 1}")
    if state.terminal is not None:
        terminal_seq, terminal = state.terminal
        if (terminal.status, "retried") not in TRANSITIONS or record.retry_failed != terminal_seq:
            raise _illegal(state, seq, record, f"the run became {terminal.status} in segment {terminal_seq}")
        state.terminal = None
        state.epochs_without_progress, state.suspect_steps = 0, ()
        _reset_failures(state)
    elif not state.released and not state.only_waiting:
        # An owner that failed while the run only waited could not make progress, so its epoch does not count.
        state.epochs_without_progress += 1
        state.suspect_steps = tuple(dict.fromkeys((*state.suspect_steps, *state.running)))
    state.epoch, state.owner, state.epoch_started = record.epoch, record.owner, record.at
    state.status, state.released = WorkflowStatus.RUNNING, False
    state.functions.update(record.functions)
    unfinished = [*state.running.values(), *state.ready.values(), *state.waits.values()]
    state.ready, state.waits, state.running, state.running_tasks = {}, {}, {}, 0
    for step in unfinished:
        step.attempt, step.failed_attempts, step.last_error = 0, 0, None
        state.make_ready(step)
    for step in state.steps.values():
        if step.phase is P.WAITING:  # it may have had attempts before the loss of an ephemeral value
            step.attempt = step.failed_attempts = 0
    ephemeral.invalidate_all(state)


def _reset_failures(state: RunState) -> None:
    """Make failed and canceled steps run again, except those in the sub-DAG of a step that caught their failure.

    A sub-DAG whose outcome is that of a WAIT may contain failed steps, and later steps may refer to them.
    """
    # A step has an outcome, but the output of its sub-DAG has none: it caught the failure itself.
    resolved = (step.resolves for step in state.steps.values() if step.outcome is None)
    excluded = {each for each in resolved if each is not None and each.outcome is not None}
    for step in state.steps.values():
        if step.scope is not None and step.scope in excluded:
            excluded.add(step)
        elif step.phase in (P.FAILED, P.CANCELED):
            step.error, step.error_value = None, None
            if step.members:
                state.set_phase(step, P.EXPANDED)
            elif step.may_start:
                state.make_ready(step)
            else:
                state.set_phase(step, P.WAITING)


def _started(state: RunState, seq: int, record: r.StepStarted) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    state.make_running(step)
    step.epoch, step.attempt, step.failed_attempts = record.epoch, record.attempt, record.failed_attempts
    step.started, step.ended, step.last_error = record.at, 0.0, record.error


def _timer_set(state: RunState, seq: int, record: r.TimerSet) -> None:
    step = _step(state, seq, record, P.READY)
    if step.spec.timer is None:
        raise _illegal(state, seq, record, "the step has no timer")
    state.deactivate(step)
    state.sleeping[record.step_id] = step
    state.set_phase(step, P.SLEEPING)
    step.epoch, step.attempt = record.epoch, 1
    step.started, step.ended, step.due = record.at, 0.0, record.due


def _committed(state: RunState, seq: int, record: r.StepCommitted) -> None:
    # An expanded step is committed here only if it catches a failure in its sub-DAG.
    allowed = (P.EXPANDED,) if record.caught else ()
    step = _step(state, seq, record, P.READY, P.RUNNING, P.SLEEPING, *allowed)
    step.text = record.text
    _record_attempt(state, step, record)
    is_wrapped = step.spec.options.catch_exceptions and not record.caught
    _resolve(state, step, Outcome(record.value, record.caught, wrapped=is_wrapped))


def _wait_decided(state: RunState, seq: int, record: r.WaitDecided) -> None:
    step = _step(state, seq, record, P.READY, P.SLEEPING)
    if step.spec.kind is not StepKind.WAIT:
        raise _illegal(state, seq, record, "the step does not wait for others")
    chosen = frozenset(record.ready)
    ready, remaining = [], []
    for parent in step.spec.parents:
        outcome = state.steps[parent].outcome
        if parent not in chosen:
            remaining.append(parent)
        elif outcome is not None:
            ready.append(outcome)
    if len(ready) != len(record.ready):
        raise _illegal(state, seq, record, "a step that is ready has no outcome, or is none for which it waits")
    state.deactivate(step)
    step.epoch, step.attempt, step.started, step.ended = record.epoch, 1, record.started, record.ended
    state.epochs_without_progress, state.suspect_steps = 0, ()
    if step.is_run_output:
        step.text = json.dumps({"ready": list(record.ready), "remaining": remaining})
    _resolve(state, step, Outcome(Value(), waited=Waited(tuple(ready), tuple(remaining))))


def _returned_ephemeral(state: RunState, seq: int, record: r.StepReturnedEphemeral) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    if step.is_run_output:
        raise _illegal(state, seq, record, "the output of the run is always stored")
    if step.is_waited_for:
        raise _illegal(state, seq, record, "the value for which a step waits is always stored")
    _record_attempt(state, step, record, is_progress=False)  # the value is lost with this owner
    is_wrapped = step.spec.options.catch_exceptions
    _resolve(state, step, Outcome(Value(), wrapped=is_wrapped, ephemeral_step=record.step_id))
    ephemeral.add(state, step)


def _ephemeral_lost(state: RunState, seq: int, record: r.StepEphemeralLost) -> None:
    step = _step(state, seq, record, P.COMMITTED)
    if record.step_id not in state.ephemeral:
        raise _illegal(state, seq, record, "its value is stored")
    ephemeral.invalidate(state, step)


def _expanded(state: RunState, seq: int, record: r.StepExpanded, graph: Graph | None) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    if graph is None:
        raise _illegal(state, seq, record, "neither the record nor a blob contains its DAG")
    _record_attempt(state, step, record)
    state.set_phase(step, P.EXPANDED)
    state.journal.append(step)
    members = _insert(state, graph, step)
    step.members = tuple(members.values())
    members[graph.output].resolves = step
    members[graph.output].is_run_output = step.is_run_output
    members[graph.output].is_waited_for |= step.is_waited_for


def _failed(state: RunState, seq: int, record: r.StepFailed) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    _record_attempt(state, step, record, is_progress=False)
    state.set_phase(step, P.FAILED)
    step.error, step.error_value = record.error, record.value


def _canceled(state: RunState, seq: int, record: r.StepCanceled) -> None:
    step = _step(state, seq, record, P.WAITING, P.READY, P.RUNNING, P.SLEEPING, P.EXPANDED)
    ephemeral.release_inputs(state, step)
    state.deactivate(step)
    state.set_phase(step, P.CANCELED)
    step.epoch = record.epoch


def _request_handled(state: RunState, seq: int, record: r.RequestHandled) -> None:
    state.handled_requests.add(record.request_id)


def _status_changed(state: RunState, seq: int, record: r.StatusChanged) -> None:
    if record.status is WorkflowStatus.RESUMABLE:
        state.released = True
    elif record.status.is_terminal:
        if record.status is WorkflowStatus.SUCCESSFUL and (state.output is None or state.output.outcome is None):
            raise _illegal(state, seq, record, "its output step has no outcome")
        state.terminal = (seq, record)
    else:
        raise _illegal(state, seq, record, "only a claim makes a run RUNNING")
    state.status = record.status


_HANDLERS: dict[type[Any], Callable[[RunState, int, Any], None]] = {
    r.Claimed: _claimed,
    r.StepStarted: _started,
    r.TimerSet: _timer_set,
    r.StepCommitted: _committed,
    r.WaitDecided: _wait_decided,
    r.StepReturnedEphemeral: _returned_ephemeral,
    r.StepEphemeralLost: _ephemeral_lost,
    r.StepFailed: _failed,
    r.StepCanceled: _canceled,
    r.RequestHandled: _request_handled,
    r.StatusChanged: _status_changed,
}


def _record_attempt(state: RunState, step: StepState, record: Any, is_progress: bool = True) -> None:
    """Record the attempt that a commit, an expansion or a failure ended."""
    ephemeral.release_inputs(state, step)
    state.deactivate(step)
    step.epoch, step.attempt = record.epoch, record.attempt
    step.started, step.ended = record.started or step.started, record.ended or step.ended
    if is_progress:
        state.epochs_without_progress, state.suspect_steps = 0, ()


def _resolve(state: RunState, step: StepState, outcome: Outcome) -> None:
    """Give an outcome to the step and to each dynamic step whose output it is, and make their dependants ready."""
    state.journal.append(step)
    while True:
        step.outcome = outcome
        state.set_phase(step, P.COMMITTED)
        for dependant in step.dependants:
            dependant.pending_parents -= 1
            if dependant.has_inputs and dependant.phase in _WAITS_FOR_INPUTS:
                state.deactivate(dependant)
                state.make_ready(dependant)
        if step.resolves is None:
            return
        step = step.resolves
        outcome = outcome.through(step.spec.options.catch_exceptions)


def _insert(state: RunState, graph: Graph, scope: StepState | None) -> dict[str, StepState]:
    """Add the steps of a DAG to the state, and return them by id."""
    members: dict[str, StepState] = {}
    for spec in graph.steps:
        if spec.step_id in state.steps:
            raise CorruptLogError(
                f"the log of run {state.created.run_uuid} is damaged: two steps have the id {spec.step_id!r}; "
                "restore it from a copy"
            )
        step = StepState(spec, scope)
        for name in spec.parents:
            parent = members.get(name) or _left_over(state, spec, name)
            parent.dependants.append(step)
            parent.is_waited_for |= spec.kind is StepKind.WAIT
            step.pending_parents += parent.outcome is None
        members[spec.step_id] = step
        state.add_step(step)
        if step.may_start:
            state.make_ready(step)
    if graph.output not in members:
        raise CorruptLogError(
            f"the log of run {state.created.run_uuid} is damaged: the output {graph.output!r} of a DAG is not one of "
            "its steps; restore it from a copy"
        )
    return members


def _left_over(state: RunState, spec: StepSpec, parent: str) -> StepState:
    """Return a parent of another DAG: a step for which a WAIT waited."""
    found = state.steps.get(parent)
    if found is None or not found.is_waited_for:
        raise CorruptLogError(
            f"the log of run {state.created.run_uuid} is damaged: step {spec.step_id!r} needs the outcome of "
            f"{parent!r}, which is not an earlier step of the same DAG, and for which no other step waits; restore it "
            "from a copy"
        )
    return found


def _step(state: RunState, seq: int, record: Any, *allowed: StepPhase) -> StepState:
    step = state.steps.get(record.step_id)
    if step is None:
        raise _illegal(state, seq, record, "the run has no such step")
    if step.phase not in allowed:
        raise _illegal(state, seq, record, f"the step is {step.phase}")
    return step


def _illegal(state: RunState, seq: int, record: r.Record, why: str) -> CorruptLogError:
    what = f"{type(record).__name__} {getattr(record, 'step_id', '')}".strip()
    return CorruptLogError(
        f"workflow {state.created.workflow_id!r}, run {state.created.run_uuid}, segment {seq}: "
        f"{what} is not allowed here: {why}; restore the log from a copy, or report this error with its text",
        workflow_id=state.created.workflow_id,
        seq=seq,
    )


def unfinished_below(step: StepState) -> list[StepState]:
    """Return the unfinished steps of its sub-DAG, at any depth. They are canceled if `step` catches a failure.

    The sub-DAG of a finished step may have such steps, too: those that a WAIT left over.
    """
    return [each for each in below(step) if not each.is_finished]
