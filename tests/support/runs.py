"""Runs as plain values, without pickles and Ray. A step is its id, and a graph is written as a line of text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from workflow.log.run_log import RunLog
from workflow.model import codec, fold
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.state import EphemeralLoss, RunState, StepState
from workflow.model.status import StepPhase

FUNCTION = hashlib.sha256(b"a function").hexdigest()
"""The blob of each step's function, in tests that do not call it. `Blobs.put(b"a function")` stores it."""

OWNER = Owner(manager="m1", incarnation="i1", address="manager-1")
ERROR_KIND, ERROR_MESSAGE = "ValueError", "boom"


def value(text: str = "v") -> Value:
    """Return a value whose pickle is never loaded."""
    return Value(inline=text.encode(), size=len(text))


def graph(text: str, **options: StepOptions) -> Graph:
    """Return a DAG: `a b c:a,b` has three steps. The last one has the others as parents and is the output.

    Args:
        text: the ids of the steps, each followed by a colon and its parents if it has any.
        **options: the options of single steps, by id. In an id, `__` means `/`.
    """
    steps = []
    for word in text.split():
        step_id, _, parents = word.partition(":")
        steps.append(
            StepSpec(
                step_id=step_id,
                name=step_id,
                function=FUNCTION,
                qualname=f"module.{step_id}",
                args=value(f"args of {step_id}"),
                parents=tuple(parents.split(",")) if parents else (),
                options=options.get(step_id.replace("/", "__"), StepOptions()),
            )
        )
    return Graph(tuple(steps), steps[-1].step_id)


def sleeper(step_id: str, seconds: float, **fields: Any) -> StepSpec:
    """Return a step that sleeps."""
    return StepSpec(step_id, step_id, "", "module.sleep", Value(), kind=StepKind.SLEEP, seconds=seconds, **fields)


def created(
    dag: Graph, workflow_id: str = "w", run_number: int = 1, run_uuid: str = "run-1", **fields: Any
) -> r.Created:
    """Return the record of a new run."""
    return r.Created(
        **{
            "workflow_id": workflow_id,
            "run_number": run_number,
            "run_uuid": run_uuid,
            "owner": OWNER,
            "shape": "0" * 64,
            "at": 1.0,
            "graph": dag,
            **fields,
        }
    )


def state_of(dag: Graph, *segments: Iterable[r.Record], **fields: Any) -> RunState:
    """Return the state of a run after some segments."""
    state = fold.begin(created(dag, **fields), dag)
    for seq, records in enumerate(segments, 1):
        for record in records:
            fold.apply(state, seq, record)
    return state


def started(step_id: str, epoch: int = 1, attempt: int = 1) -> r.StepStarted:
    """Return the record of a started attempt."""
    return r.StepStarted(step_id, epoch, attempt, 2.0)


def committed(step_id: str, epoch: int = 1, text: str = "v", **fields: Any) -> r.StepCommitted:
    """Return the record of a stored outcome."""
    return r.StepCommitted(step_id, epoch, value(text), started=2.0, ended=3.0, **fields)


def returned_ephemeral(step_id: str, epoch: int = 1, attempt: int = 1) -> r.StepReturnedEphemeral:
    """Return the record of a step that returned an ephemeral value."""
    return r.StepReturnedEphemeral(step_id, epoch, attempt, started=2.0, ended=3.0)


def expanded(step_id: str, dag: Graph, epoch: int = 1) -> r.StepExpanded:
    """Return the record of a step that returned a sub-DAG."""
    return r.StepExpanded(step_id, epoch, dag, started=2.0, ended=3.0)


def failed(step_id: str, epoch: int = 1, attempt: int = 1) -> r.StepFailed:
    """Return the record of a step that raised in its last attempt."""
    error = ErrorInfo(ERROR_KIND, ERROR_MESSAGE, step_id=step_id)
    return r.StepFailed(step_id, epoch, error, value("pickled error"), attempt=attempt, started=2.0, ended=3.0)


def claimed(epoch: int, owner: Owner | None = None, retry_failed: int = -1, **functions: str) -> r.Claimed:
    """Return the record of a claim. `functions` maps stored functions to those that this epoch executes instead."""
    owner = owner or Owner(manager=f"m{epoch}", incarnation=f"i{epoch}")
    return r.Claimed(epoch, owner, 4.0, retry_failed=retry_failed, functions=functions)


def append(log: RunLog, *segments: Sequence[r.Record]) -> None:
    """Append segments to a log, each with its totals."""
    for records in segments:
        log.append(log.replay(), records)


def through_json(record: r.Record) -> r.Record:
    """Encode a record and decode it again, as a reader of the log receives it."""
    return codec.decode(json.loads(json.dumps(codec.encode(record))))


def picture(state: RunState) -> dict[str, Any]:
    """Return everything in a state as values that can be compared."""
    return {
        "run": (
            state.epoch,
            state.owner,
            state.epoch_started,
            state.seq,
            state.status,
            state.released,
            state.epochs_without_progress,
            state.suspect_steps,
        ),
        "handled_requests": state.handled_requests,
        "functions": state.functions,
        "terminal": state.terminal,
        "counts": (state.succeeded, state.failed),
        "journal": [
            f"{entry.step.spec.step_id} lost" if isinstance(entry, EphemeralLoss) else entry.spec.step_id
            for entry in state.journal
        ],
        "ephemeral": state.ephemeral,
        "ready": set(state.ready),
        "waits": set(state.waits),
        "running": set(state.running),
        "sleeping": set(state.sleeping),
        "running_tasks": state.running_tasks,
        "steps": [(step_id, _picture_of(step)) for step_id, step in state.steps.items()],
    }


def _picture_of(step: StepState) -> tuple[Any, ...]:
    # A step that is not running and has no outcome may have had attempts before. A snapshot does not contain them.
    has_no_attempt = step.phase in (StepPhase.READY, StepPhase.WAITING, StepPhase.CANCELED)
    return (
        step.spec,
        step.phase,
        step.pending_parents,
        step.outcome,
        step.error,
        step.error_value,
        step.last_error,
        step.text,
        step.is_run_output,
        step.checkpoint,
        step.scope and step.scope.spec.step_id,
        step.resolves and step.resolves.spec.step_id,
        step.catcher and step.catcher.spec.step_id,
        [each.spec.step_id for each in step.members],
        [each.spec.step_id for each in step.dependants],
        None if has_no_attempt else (step.attempt, step.epoch, step.started, step.ended),
        step.failed_attempts if step.phase is StepPhase.RUNNING else None,
        step.due if step.phase is StepPhase.SLEEPING else None,
    )
