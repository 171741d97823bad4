"""What the engine's parts tell each other: plain frozen values, carried by Ray or by a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workflow.model.graph import Graph, Value
from workflow.model.run_view import ErrorInfo
from workflow.model.state import Outcome
from workflow.model.status import WorkflowStatus


@dataclass(frozen=True, slots=True)
class RunAddress:
    """Which run, where."""

    store_url: str
    workflow_id: str
    run_number: int
    run_uuid: str


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Take a run over.

    Attributes:
        uid, attempt: of the Workflow object it is done for; empty and 0 without the operator.
        functions: see Claimed.
    """

    workflow_id: str
    run_number: int
    uid: str = ""
    attempt: int = 0
    take_over: bool = False
    retry_failed: bool = False
    functions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EphemeralValue:
    """A value that is not stored: its pickle, or the Ray object that holds it, which nobody but a worker looks into."""

    value: Value | None = None
    ref: Any = None


TaskKey = tuple[str, str]
"""(run uuid, step id): steps of two runs often have one id."""


@dataclass(frozen=True, slots=True)
class StepTask:
    """One try of one step, for a worker.

    Attributes:
        parents: outcomes that stand for the marks in args, in the order of the step's parents.
        attempt: which try of this epoch, from 1.
        render: make a text of the value: it is the run's.
        written_by: versions that pickled the DAG.
        checkpoint: store the value; else it is lent to those who take it.
        held: what was lent to this step, by the steps that made it.
        manager: name of the one that serves the workflows that the step starts; empty: that of its own environment.
    """

    run: RunAddress
    step_id: str
    qualname: str
    function: str
    args: Value
    parents: tuple[Outcome, ...]
    attempt: int
    render: bool
    written_by: str
    checkpoint: bool = True
    held: Mapping[str, EphemeralValue] = field(default_factory=dict)
    manager: str = ""

    @property
    def key(self) -> TaskKey:
        """Tells it from the tasks of all runs that one worker may have at once."""
        return self.run.run_uuid, self.step_id

    @property
    def only_by_ray(self) -> bool:
        """Whether it refers to Ray objects, whose references only Ray itself may carry."""
        return any(held.ref is not None for held in self.held.values())


@dataclass(frozen=True, slots=True)
class Returned:
    """The step returned a value, which is stored where it is large."""

    value: Value
    text: str
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class ReturnedEphemeral:
    """The step returned a value, which is not stored."""

    held: EphemeralValue
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class InputsLost:
    """The step was not executed: values that were lent to it are lost."""

    step_ids: tuple[str, ...]
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Expanded:
    """The step returned a DAG; either itself or the blob that holds it."""

    graph: Graph
    blob: str
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Raised:
    """The step raised.

    Attributes:
        value: its exception, pickled, or a stand-in that tells the same.
        system: it was not the user's code that failed but what executes it, after all of Ray's own tries.
    """

    error: ErrorInfo
    value: Value
    started: float
    ended: float
    system: bool = False


StepResult = Returned | ReturnedEphemeral | InputsLost | Expanded | Raised


@dataclass(frozen=True, slots=True)
class FinishedAttempt:
    """A try that a worker has ended; `key` is the task's."""

    key: TaskKey
    attempt: int
    result: StepResult

    @property
    def only_by_ray(self) -> bool:
        """Whether it refers to a Ray object, whose reference only Ray itself may carry."""
        return isinstance(self.result, ReturnedEphemeral) and self.result.held.ref is not None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, for whoever waited.

    Attributes:
        outcome: where it SUCCESSFUL.
        error, error_value: where it FAILED.
        written_by: versions that pickled.
    """

    run: RunAddress
    status: WorkflowStatus
    outcome: Outcome | None
    error: ErrorInfo | None
    error_value: Value | None
    reason: str
    written_by: str
