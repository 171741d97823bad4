"""The fold: how records change a run's state. The only place that changes a `RunState`.

Called by the engine for each segment it is about to store, and by `log.replay` for each it reads. Linear in the
records; the tail of a recursion of any depth resolves in one pass. A record that the state does not allow is
`Corrupt`: two owners committed, or the log was edited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow.errors import CorruptLogError
from workflow.model import ephemeral
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, Value
from workflow.model.state import Outcome, RunState, StepState, below
from workflow.model.status import TRANSITIONS, StepPhase, WorkflowStatus

P = StepPhase


def begin(created: r.Created, graph: Graph) -> RunState:
    """The state of a run that was just made.

    Args:
        created: its record.
        graph: its DAG, read from the record or from the blob that the record names.
    """
    state = RunState(created=created, epoch=1, owner=created.owner, epoch_started=created.at)
    members = _insert(state, graph, None)
    state.output = members[graph.output]
    state.output.is_run_output = True
    return state


def apply(state: RunState, seq: int, record: r.Record, graph: Graph | None = None) -> None:
    """Fold one record in.

    Args:
        state: changed in place.
        seq: the segment that holds the record.
        record: what happened.
        graph: the DAG of a `StepExpanded`, where the record only names its blob.

    Raises:
        Corrupt: the record may not stand here.
    """
    epoch = getattr(record, "epoch", state.epoch)
    if not isinstance(record, r.Claimed) and epoch > state.epoch:
        raise _illegal(state, seq, record, f"it is of epoch {epoch}, but only {state.epoch} was claimed")
    if state.is_finished and not isinstance(record, (r.Claimed, r.RequestHandled)):
        raise _illegal(state, seq, record, "the run has ended")
    if isinstance(record, r.StepExpanded):
        _expanded(state, seq, record, graph or record.graph)
    else:
        handler = _HANDLERS.get(type(record))
        if handler is None:
            raise _illegal(state, seq, record, "such a record never stands in a segment")
        handler(state, seq, record)
    state.seq = max(state.seq, seq)


def restore(state: RunState, records: list[r.Record]) -> None:
    """Fold a snapshot into the state that `begin` made.

    Raises:
        Corrupt: it does not begin with its head, or a record may not stand in it.
    """
    head = records[0] if records else None
    if not isinstance(head, r.SnapshotHeader) or state.seq:
        raise CorruptLogError(
            f"run {state.created.run_uuid}: a snapshot must begin with its header and come before all segments"
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
        end_seq, end = state.terminal
        if (end.status, "retried") not in TRANSITIONS or record.retry_failed != end_seq:
            raise _illegal(state, seq, record, f"the run ended {end.status} in segment {end_seq}")
        state.terminal = None
        state.epochs_without_progress, state.suspect_steps = 0, ()
        _void_failures(state)
    elif (
        not state.released and not state.only_waiting
    ):  # a wait is no lack of progress, however many owners it outlives
        state.epochs_without_progress += 1
        state.suspect_steps = tuple(dict.fromkeys((*state.suspect_steps, *state.running)))
    state.epoch, state.owner, state.epoch_started = record.epoch, record.owner, record.at
    state.status, state.released = WorkflowStatus.RUNNING, False
    state.functions.update(record.functions)
    begun = [*state.running.values(), *state.ready.values(), *state.waits.values()]
    state.ready, state.waits, state.running, state.running_tasks = {}, {}, {}, 0
    for step in begun:
        step.attempt = step.failed_attempts = 0
        state.make_ready(step)
    ephemeral.void_all(state)


def _void_failures(state: RunState) -> None:
    """Failed and canceled steps run again, but nothing below an expansion whose step has its outcome."""
    closed: set[StepState] = set()
    for step in state.steps.values():
        if step.scope is not None and (step.scope in closed or step.scope.outcome is not None):
            closed.add(step)
        elif step.phase in (P.FAILED, P.CANCELED):
            step.attempt, step.failed_attempts, step.error, step.error_value = 0, 0, None, None
            if step.members:
                state.set_phase(step, P.EXPANDED)
            elif step.pending_parents:
                state.set_phase(step, P.WAITING)
            else:
                state.make_ready(step)


def _started(state: RunState, seq: int, record: r.StepStarted) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    state.make_running(step)
    step.epoch, step.attempt, step.failed_attempts = record.epoch, record.attempt, record.failed_attempts
    step.started, step.ended = record.at, 0.0


def _timer_set(state: RunState, seq: int, record: r.TimerSet) -> None:
    step = _step(state, seq, record, P.READY)
    if step.spec.kind is not StepKind.SLEEP:
        raise _illegal(state, seq, record, "the step does not sleep")
    state.deactivate(step)
    state.sleeping[record.step_id] = step
    state.set_phase(step, P.SLEEPING)
    step.epoch, step.attempt = record.epoch, 1
    step.started, step.ended, step.due = record.at, 0.0, record.due


def _committed(state: RunState, seq: int, record: r.StepCommitted) -> None:
    # A step that expanded is committed by its sub-DAG's failure, which it catches; any other by its own return.
    allowed = (P.EXPANDED,) if record.caught else ()
    step = _step(state, seq, record, P.READY, P.RUNNING, P.SLEEPING, *allowed)
    step.text = record.text
    _ran(state, step, record)
    _resolve(
        state, step, Outcome(record.value, record.caught, int(step.spec.options.catch_exceptions and not record.caught))
    )


def _passed(state: RunState, seq: int, record: r.StepReturnedEphemeral) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    if step.is_run_output:
        raise _illegal(state, seq, record, "the run's own value is always stored")
    _ran(state, step, record, progress=False)  # the next owner has nothing of it
    _resolve(state, step, Outcome(Value(), wraps=int(step.spec.options.catch_exceptions), held=record.step_id))
    ephemeral.hold(state, step)


def _voided(state: RunState, seq: int, record: r.StepEphemeralLost) -> None:
    step = _step(state, seq, record, P.COMMITTED)
    if record.step_id not in state.ephemeral:
        raise _illegal(state, seq, record, "its value is stored")
    ephemeral.void(state, step)


def _expanded(state: RunState, seq: int, record: r.StepExpanded, graph: Graph | None) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    if graph is None:
        raise _illegal(state, seq, record, "its DAG is in neither the record nor a blob")
    _ran(state, step, record)
    state.set_phase(step, P.EXPANDED)
    state.journal.append(step)
    members = _insert(state, graph, step)
    step.members = tuple(members.values())
    members[graph.output].resolves = step
    members[graph.output].is_run_output = step.is_run_output


def _failed(state: RunState, seq: int, record: r.StepFailed) -> None:
    step = _step(state, seq, record, P.READY, P.RUNNING)
    _ran(state, step, record, progress=False)
    state.set_phase(step, P.FAILED)
    step.error, step.error_value = record.error, record.value


def _canceled(state: RunState, seq: int, record: r.StepCanceled) -> None:
    step = _step(state, seq, record, P.WAITING, P.READY, P.RUNNING, P.SLEEPING, P.EXPANDED)
    ephemeral.let_go(state, step)
    state.deactivate(step)
    state.set_phase(step, P.CANCELED)
    step.epoch = record.epoch


def _taken(state: RunState, seq: int, record: r.RequestHandled) -> None:
    state.handled_requests.add(record.request_id)


def _status_changed(state: RunState, seq: int, record: r.StatusChanged) -> None:
    if record.status is WorkflowStatus.RESUMABLE:
        state.released = True
    elif record.status.is_terminal:
        if record.status is WorkflowStatus.SUCCESSFUL and (state.output is None or state.output.outcome is None):
            raise _illegal(state, seq, record, "its output step has no outcome")
        state.terminal = (seq, record)
    else:
        raise _illegal(state, seq, record, "RUNNING is begun by a claim")
    state.status = record.status


_HANDLERS: dict[type[Any], Callable[[RunState, int, Any], None]] = {
    r.Claimed: _claimed,
    r.StepStarted: _started,
    r.TimerSet: _timer_set,
    r.StepCommitted: _committed,
    r.StepReturnedEphemeral: _passed,
    r.StepEphemeralLost: _voided,
    r.StepFailed: _failed,
    r.StepCanceled: _canceled,
    r.RequestHandled: _taken,
    r.StatusChanged: _status_changed,
}


def _ran(state: RunState, step: StepState, record: Any, progress: bool = True) -> None:
    """What commits, expansions and failures share: the step has left the running ones."""
    ephemeral.let_go(state, step)
    state.deactivate(step)
    step.epoch, step.attempt = record.epoch, record.attempt
    step.started, step.ended = record.started or step.started, record.ended or step.ended
    if progress:
        state.epochs_without_progress, state.suspect_steps = 0, ()


def _resolve(state: RunState, step: StepState, outcome: Outcome) -> None:
    """The step, and each dynamic step it is the output of, now has its outcome; whoever waited for one may start."""
    state.journal.append(step)
    while True:
        step.outcome = outcome
        state.set_phase(step, P.COMMITTED)
        for dependant in step.dependants:
            dependant.pending_parents -= 1
            if dependant.pending_parents == 0 and dependant.phase is P.WAITING:
                state.make_ready(dependant)
        if step.resolves is None:
            return
        step = step.resolves
        outcome = outcome.through(step.spec.options.catch_exceptions)


def _insert(state: RunState, graph: Graph, scope: StepState | None) -> dict[str, StepState]:
    members: dict[str, StepState] = {}
    for spec in graph.steps:
        if spec.step_id in state.steps:
            raise CorruptLogError(f"run {state.created.run_uuid}: two steps have the id {spec.step_id!r}")
        step = StepState(spec, scope)
        for parent in spec.parents:
            if parent not in members:
                raise CorruptLogError(
                    f"run {state.created.run_uuid}: step {spec.step_id!r} takes the outcome of {parent!r}, "
                    "which does not stand before it in the same DAG"
                )
            members[parent].dependants.append(step)
        step.pending_parents = len(spec.parents)
        members[spec.step_id] = step
        state.add_step(step)
        if not step.pending_parents:
            state.make_ready(step)
    if graph.output not in members:
        raise CorruptLogError(
            f"run {state.created.run_uuid}: the output {graph.output!r} of a DAG is none of its steps"
        )
    return members


def _step(state: RunState, seq: int, record: Any, *allowed: StepPhase) -> StepState:
    step = state.steps.get(record.step_id)
    if step is None:
        raise _illegal(state, seq, record, "no such step came into being")
    if step.phase not in allowed:
        raise _illegal(state, seq, record, f"the step is {step.phase}")
    return step


def _illegal(state: RunState, seq: int, record: r.Record, why: str) -> CorruptLogError:
    what = f"{type(record).__name__} {getattr(record, 'step_id', '')}".strip()
    return CorruptLogError(
        f"workflow {state.created.workflow_id!r}, run {state.created.run_uuid}, segment {seq}: "
        f"{what} may not stand here: {why}",
        workflow_id=state.created.workflow_id,
        seq=seq,
    )


def unfinished_below(step: StepState) -> list[StepState]:
    """The steps of its sub-DAG, at any depth, that a failure which `step` catches has to cancel."""
    return [each for each in below(step) if not each.is_finished]
