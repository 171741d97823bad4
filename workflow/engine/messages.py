"""Messages between the parts of the engine: plain frozen values that Ray, a direct connection or a test carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workflow.model.graph import Graph, Value
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.state import Outcome
from workflow.model.status import WorkflowStatus


@dataclass(frozen=True, slots=True)
class RunAddress:
    """Identifies a run and the store that contains it."""

    store_url: str
    workflow_id: str
    run_number: int
    run_uuid: str


@dataclass(frozen=True, slots=True)
class StoreWitness:
    """What a manager stored to show which store it uses: its heartbeat.

    Attributes:
        store_url: address of the store.
        manager_id: id of the manager, from which the key of its heartbeat follows.
        node: the node of the manager, for error texts.
    """

    store_url: str
    manager_id: str
    node: str


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Asks a manager to claim a run and to continue it.

    Attributes:
        uid: uid of the Workflow object that asks; empty without the operator.
        attempt: number of the submission attempt that asks; 0 without the operator.
        take_over: the owner that may be replaced even if it is alive; None for no owner.
        retry_failed: seq of the segment in which the run FAILED, if its failed steps may run again; -1 for no failure.
        functions: new code of the run's steps; see `Claimed`.
    """

    workflow_id: str
    run_number: int
    uid: str = ""
    attempt: int = 0
    take_over: Owner | None = None
    retry_failed: int = -1
    functions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EphemeralValue:
    """A value that is not stored. Only workers read it.

    Attributes:
        value: its pickle, if that is small.
        ref: the Ray object that contains its pickle, if that is large.
    """

    value: Value | None = None
    ref: Any = None


TaskKey = tuple[str, str]
"""(run uuid, step id). The run uuid is needed because steps of two runs often have the same id."""


@dataclass(frozen=True, slots=True)
class StepTask:
    """One attempt of one step, as a worker receives it.

    Attributes:
        function: name of the blob that contains the pickled function.
        args: the pickled arguments. Marks in them refer to outcomes of parents.
        parents: outcomes of the parents, in the order of the step's parents.
        attempt: number of this attempt in the epoch, from 1.
        render: whether to render the value as text, because it is the output of the run.
        written_by: versions of Python and of the libraries that pickled the DAG.
        checkpoint: whether to store the value. If not, it is published as an ephemeral value.
        ephemeral_inputs: the ephemeral values that the arguments refer to, by the id of the step that returned them.
        manager: name of the manager for workflows that the step starts; empty for that of the step's environment.
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
    ephemeral_inputs: Mapping[str, EphemeralValue] = field(default_factory=dict)
    manager: str = ""

    @property
    def key(self) -> TaskKey:
        """Identifies the task among all tasks of a manager."""
        return self.run.run_uuid, self.step_id

    @property
    def has_ray_refs(self) -> bool:
        """Whether the task contains references to Ray objects, which only a Ray call may carry."""
        return any(ephemeral.ref is not None for ephemeral in self.ephemeral_inputs.values())


@dataclass(frozen=True, slots=True)
class Returned:
    """The step returned a value. A large value is stored as a blob."""

    value: Value
    text: str
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class ReturnedEphemeral:
    """The step returned a value that is not stored."""

    ephemeral: EphemeralValue
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class InputsLost:
    """The step was not executed, because ephemeral values in its arguments are lost.

    Attributes:
        step_ids: the steps that returned the lost values.
    """

    step_ids: tuple[str, ...]
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Expanded:
    """The step returned a DAG.

    Attributes:
        graph: the DAG.
        blob: name of the blob that contains the DAG; empty if the DAG is small.
    """

    graph: Graph
    blob: str
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Raised:
    """The step raised an exception, or could not be executed.

    Attributes:
        error: the exception as text.
        value: the pickled exception, or a pickled RuntimeError with the same text.
        system: whether Ray failed to execute the step, after all retries. The user's code is not at fault.
        environment: `inputs` if the function or the arguments could not be loaded, `store` if the store refused
            the credentials of the worker. Empty if the user's code raised.
    """

    error: ErrorInfo
    value: Value
    started: float
    ended: float
    system: bool = False
    environment: Literal["", "inputs", "store"] = ""


StepResult = Returned | ReturnedEphemeral | InputsLost | Expanded | Raised


@dataclass(frozen=True, slots=True)
class FinishedAttempt:
    """An attempt that a worker has finished.

    Attributes:
        key: key of the task.
    """

    key: TaskKey
    attempt: int
    result: StepResult

    @property
    def has_ray_refs(self) -> bool:
        """Whether the result contains a reference to a Ray object, which only a Ray call may carry."""
        return isinstance(self.result, ReturnedEphemeral) and self.result.ephemeral.ref is not None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        outcome: outcome of the output step, if the status is SUCCESSFUL.
        error: the error, if the status is FAILED.
        error_value: the pickled exception, if the status is FAILED and a step raised it.
        reason: short reason for the status.
        written_by: versions of Python and of the libraries that pickled the DAG.
    """

    run: RunAddress
    status: WorkflowStatus
    outcome: Outcome | None
    error: ErrorInfo | None
    error_value: Value | None
    reason: str
    written_by: str
