"""Runs for tests, made from plain values: no pickles, no Ray. A step is its id; a graph is read from a line of text."""

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
"""The blob that every step's function is, in tests that do not call it: `Blobs.put(b"a function")`."""

OWNER = Owner(manager="m1", incarnation="i1", address="manager-1")
BOOM = ErrorInfo(kind="ValueError", message="boom")


def value(text: str = "v") -> Value:
    """A value whose pickle is nobody's business."""
    return Value(inline=text.encode(), size=len(text))


def graph(text: str, **options: StepOptions) -> Graph:
    """A DAG: `a b c:a,b` is three steps, the last taking the outcomes of the others and being the output.

    Args:
        text: steps, parents behind a colon.
        **options: of single steps, by id; `/` in an id is written `__`.
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
    """A step that sleeps."""
    return StepSpec(step_id, step_id, "", "module.sleep", Value(), kind=StepKind.SLEEP, seconds=seconds, **fields)


def created(
    dag: Graph, workflow_id: str = "w", run_number: int = 1, run_uuid: str = "run-1", **fields: Any
) -> r.Created:
    """The record of a new run."""
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
    """A run's state behind some segments."""
    state = fold.begin(created(dag, **fields), dag)
    for seq, records in enumerate(segments, 1):
        for record in records:
            fold.apply(state, seq, record)
    return state


def started(step_id: str, epoch: int = 1, number: int = 1) -> r.StepStarted:
    """A try of a step."""
    return r.StepStarted(step_id, epoch, number, 2.0)


def committed(step_id: str, epoch: int = 1, text: str = "v", **fields: Any) -> r.StepCommitted:
    """A step's outcome."""
    return r.StepCommitted(step_id, epoch, value(text), started=2.0, ended=3.0, **fields)


def passed(step_id: str, epoch: int = 1, attempt: int = 1) -> r.StepReturnedEphemeral:
    """A step whose value is only handed on."""
    return r.StepReturnedEphemeral(step_id, epoch, attempt, started=2.0, ended=3.0)


def expanded(step_id: str, dag: Graph, epoch: int = 1) -> r.StepExpanded:
    """A sub-DAG that a step returned."""
    return r.StepExpanded(step_id, epoch, dag, started=2.0, ended=3.0)


def failed(step_id: str, epoch: int = 1, number: int = 1) -> r.StepFailed:
    """A step that raised in its last try."""
    error = ErrorInfo(BOOM.kind, BOOM.message, step_id=step_id)
    return r.StepFailed(step_id, epoch, error, value("pickled error"), attempt=number, started=2.0, ended=3.0)


def claimed(epoch: int, owner: Owner | None = None, retry_failed: int = -1, **functions: str) -> r.Claimed:
    """A new epoch; `functions`: stored with the run -> to be executed now."""
    owner = owner or Owner(manager=f"m{epoch}", incarnation=f"i{epoch}")
    return r.Claimed(epoch, owner, 4.0, retry_failed=retry_failed, functions=functions)


def append(log: RunLog, *segments: Sequence[r.Record]) -> None:
    """Append segments to a log, each with its totals."""
    for records in segments:
        log.append(log.replay(), records)


def through_json(record: r.Record) -> r.Record:
    """The record as a reader of the log gets it."""
    return codec.decode(json.loads(json.dumps(codec.encode(record))))


def picture(state: RunState) -> dict[str, Any]:
    """All that a state says, as values that can be compared."""
    return {
        "run": (
            state.epoch,
            state.owner,
            state.seq,
            state.status,
            state.released,
            state.epochs_without_progress,
            state.suspect_steps,
        ),
        "taken": state.handled_requests,
        "functions": state.functions,
        "end": state.terminal,
        "counts": (state.succeeded, state.failed),
        "journal": [
            f"{entry.step.spec.step_id} voided" if isinstance(entry, EphemeralLoss) else entry.spec.step_id
            for entry in state.journal
        ],
        "passed": state.ephemeral,
        "ready": set(state.ready),
        "waits": set(state.waits),
        "running": set(state.running),
        "sleeping": set(state.sleeping),
        "flying": state.running_tasks,
        "steps": [(step_id, _picture_of(step)) for step_id, step in state.steps.items()],
    }


def _picture_of(step: StepState) -> tuple[Any, ...]:
    # What the tries of a step were that has none now, or was canceled, is nobody's business.
    idle = step.phase in (StepPhase.READY, StepPhase.WAITING, StepPhase.CANCELED)
    return (
        step.spec,
        step.phase,
        step.pending_parents,
        step.outcome,
        step.error,
        step.error_value,
        step.text,
        step.is_run_output,
        step.checkpoint,
        step.scope and step.scope.spec.step_id,
        step.resolves and step.resolves.spec.step_id,
        step.catcher and step.catcher.spec.step_id,
        [each.spec.step_id for each in step.members],
        [each.spec.step_id for each in step.dependants],
        None if idle else (step.attempt, step.epoch, step.started, step.ended),
        step.due if step.phase is StepPhase.SLEEPING else None,
    )
