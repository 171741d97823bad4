"""The state of a run in memory, as the fold of its log: the run and its step executions.

Only `fold.apply` changes a state. A manager keeps all steps of its live runs in memory, so the size of a `StepState`
limits how many steps it can own. For this reason the class uses slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from workflow.model.graph import StepKind, StepSpec, Value
from workflow.model.records import Created, StatusChanged
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.status import StepPhase, WorkflowStatus


@dataclass(frozen=True, slots=True)
class Waited:
    """What a WAIT decided.

    Attributes:
        ready: the outcomes of the steps that were ready.
        remaining: the ids of the other steps for which it waited.
    """

    ready: tuple[Outcome, ...]
    remaining: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What every consumer of a step sees.

    Attributes:
        value: the pickled value; empty for an ephemeral value, and for a wait.
        caught: whether the value is an exception. Consumers see `(None, exception)` then.
        wrapped: whether consumers see `(value, None)`, because a step that catches exceptions returned it.
        ephemeral_step: the step that returned the value as an ephemeral one, or empty. Only the owner of this epoch has
            the value.
        waited: the outcome of a WAIT; None for all other steps.
    """

    value: Value
    caught: bool = False
    wrapped: bool = False
    ephemeral_step: str = ""
    waited: Waited | None = None

    def through(self, catching: bool) -> Outcome:
        """Return the outcome of a dynamic step whose sub-DAG has this outcome.

        Args:
            catching: whether the dynamic step catches exceptions. An outcome that is a tuple already stays as it is.
        """
        return replace(self, wrapped=True) if catching and not self.caught else self


class StepState:
    """One step execution.

    Attributes:
        scope: the dynamic step whose sub-DAG contains it, or None.
        pending_parents: the number of parents without an outcome.
        dependants: the steps that consume its outcome.
        resolves: the dynamic step that gets this step's outcome, because this step is the output of its sub-DAG; or
            None.
        catcher: the nearest enclosing dynamic step that catches exceptions, or None.
        checkpoint: whether its value is to be stored, by its own options or those of the enclosing steps.
        members: the steps of its sub-DAG, after it expanded.
        is_run_output: whether its outcome is the outcome of the run, directly or through dynamic steps.
        is_waited_for: whether a WAIT waits for its outcome, directly or through dynamic steps.
        text: a rendering of its value.
        due: the end of its timer, in seconds since 1970, after the timer is set.
        attempt: the number of its last attempt in this epoch.
        failed_attempts: the attempts of this epoch that raised and were followed by another attempt.
        last_error: what the attempt before the running one raised, or None.
    """

    __slots__ = (
        "attempt",
        "catcher",
        "checkpoint",
        "dependants",
        "due",
        "ended",
        "epoch",
        "error",
        "error_value",
        "failed_attempts",
        "is_run_output",
        "is_waited_for",
        "last_error",
        "members",
        "outcome",
        "pending_parents",
        "phase",
        "resolves",
        "scope",
        "spec",
        "started",
        "text",
    )  # fmt: skip

    def __init__(self, spec: StepSpec, scope: StepState | None) -> None:
        self.spec = spec
        self.scope = scope
        self.phase = StepPhase.WAITING
        self.pending_parents = 0
        self.dependants: list[StepState] = []
        self.resolves: StepState | None = None
        self.is_run_output = False
        self.is_waited_for = False
        self.catcher: StepState | None = None
        if scope is not None:
            self.catcher = scope if scope.spec.options.catch_exceptions else scope.catcher
        wanted = spec.options.checkpoint
        self.checkpoint: bool = wanted if wanted is not None else scope is None or scope.checkpoint
        self.members: tuple[StepState, ...] = ()
        self.outcome: Outcome | None = None
        self.error: ErrorInfo | None = None
        self.error_value: Value | None = None
        self.last_error: ErrorInfo | None = None
        self.text = ""
        self.attempt = 0
        self.failed_attempts = 0
        self.epoch = 0
        self.started = 0.0
        self.ended = 0.0
        self.due = 0.0

    @property
    def needs_worker(self) -> bool:
        """Whether it uses a worker while it runs. Sleeps, events and waits use none."""
        return self.spec.kind is StepKind.TASK

    @property
    def checkpointed(self) -> bool:
        """Whether its value is stored. The output of the run and that for which a step waits are always stored."""
        return self.checkpoint or self.is_run_output or self.is_waited_for

    @property
    def has_inputs(self) -> bool:
        """Whether enough parents have outcomes: all of them, or as many as a WAIT needs."""
        if self.spec.wait is None:
            return self.pending_parents == 0
        parents = len(self.spec.parents)
        return parents - self.pending_parents >= min(self.spec.wait.num_returns, parents)

    @property
    def may_start(self) -> bool:
        """Whether it is ready. A WAIT with a timeout is ready without inputs, because its timer can be set."""
        return self.has_inputs or (self.spec.wait is not None and self.spec.wait.timeout is not None)

    @property
    def is_finished(self) -> bool:
        """Whether it does not change any more in this epoch."""
        return self.phase in FINISHED


@dataclass(frozen=True, slots=True)
class EphemeralLoss:
    """An entry of the journal: the ephemeral value of a step was lost at this point."""

    step: StepState


FINISHED = frozenset({StepPhase.COMMITTED, StepPhase.FAILED, StepPhase.CANCELED})


@dataclass(slots=True)
class RunState:
    """The state of a run after the segment `seq` of its log.

    Attributes:
        seq: the last folded segment; 0 if only `Created` is folded.
        epoch_started: when the current epoch was claimed, in seconds since 1970.
        released: whether the owner released the run, and no manager has claimed it since.
        epochs_without_progress: consecutive claims without a commit or an expansion between them.
        suspect_steps: the steps that were running when owners failed, since the last progress.
        handled_requests: ids of the inbox requests that are handled.
        functions: the functions that later epochs use instead of those that are stored with the run.
        terminal: the seq of the segment that finished the run, and the record that did; None if it is not finished.
        steps: all steps by id, in the order of their creation.
        output: the step whose outcome is the outcome of the run.
        journal: the steps in the order of their outcomes and expansions, with the losses of ephemeral values. The
            steps can be folded again in this order.
        ephemeral: the steps with an ephemeral value, by id, and how many steps still need it. A value with 0 is
            released.
        ready: the steps that may be started and need a worker, in order.
        waits: the sleeps and events that may be started, in order.
        running: the steps that were started in this epoch and have no outcome.
        running_tasks: the number of running steps that use a worker.
        sleeping: the steps whose timers are set.
        phases: the number of steps in each phase.
    """

    created: Created
    epoch: int
    owner: Owner
    seq: int = 0
    epoch_started: float = 0.0
    status: WorkflowStatus = WorkflowStatus.RUNNING
    released: bool = False
    epochs_without_progress: int = 0
    suspect_steps: tuple[str, ...] = ()
    handled_requests: set[str] = field(default_factory=set)
    functions: dict[str, str] = field(default_factory=dict)
    terminal: tuple[int, StatusChanged] | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    output: StepState | None = None
    journal: list[StepState | EphemeralLoss] = field(default_factory=list)
    ephemeral: dict[str, int] = field(default_factory=dict)
    ready: dict[str, StepState] = field(default_factory=dict)
    waits: dict[str, StepState] = field(default_factory=dict)
    running: dict[str, StepState] = field(default_factory=dict)
    running_tasks: int = 0
    sleeping: dict[str, StepState] = field(default_factory=dict)
    phases: dict[StepPhase, int] = field(default_factory=lambda: dict.fromkeys(StepPhase, 0))

    @property
    def is_finished(self) -> bool:
        """Whether the run has reached a terminal state."""
        return self.terminal is not None

    @property
    def only_waiting(self) -> bool:
        """Whether the run does nothing except wait for sleeps, events and timeouts."""
        uses_workers = self.running_tasks > 0 or bool(self.ready)
        return not uses_workers and bool(self.sleeping or self.running or self.waits)

    @property
    def succeeded(self) -> int:
        """How many steps have an outcome."""
        return self.phases[StepPhase.COMMITTED]

    @property
    def failed(self) -> int:
        """How many steps failed without being caught."""
        return self.phases[StepPhase.FAILED]

    def active_steps(self) -> list[StepState]:
        """Return the steps that are running, sleeping or may be started, in a fixed order."""
        return [*self.running.values(), *self.ready.values(), *self.waits.values(), *self.sleeping.values()]

    def add_step(self, step: StepState) -> None:
        """Add a step that was just created, in its first phase."""
        self.steps[step.spec.step_id] = step
        self.phases[step.phase] += 1

    def set_phase(self, step: StepState, phase: StepPhase) -> None:
        """Change the phase of a step. All changes go through here, so that `phases` is always right."""
        phases = self.phases
        phases[step.phase] -= 1
        phases[phase] += 1
        step.phase = phase

    def make_ready(self, step: StepState) -> None:
        """Record that the step may be started. Only `fold` calls this method and the following ones."""
        self.set_phase(step, StepPhase.READY)
        (self.ready if step.needs_worker else self.waits)[step.spec.step_id] = step

    def make_running(self, step: StepState) -> None:
        """Record that an attempt of the step was started."""
        if step.phase is not StepPhase.RUNNING:
            self.deactivate(step)
            self.running[step.spec.step_id] = step
            if step.needs_worker:
                self.running_tasks += 1
            self.set_phase(step, StepPhase.RUNNING)

    def deactivate(self, step: StepState) -> None:
        """Record that the step is not ready, running or sleeping any more."""
        step_id = step.spec.step_id
        step.last_error = None
        (self.ready if step.needs_worker else self.waits).pop(step_id, None)
        was_running = self.running.pop(step_id, None) is not None
        if was_running and step.needs_worker:
            self.running_tasks -= 1
        self.sleeping.pop(step_id, None)


def below(step: StepState) -> Iterator[StepState]:
    """Yield all steps of the sub-DAG of `step`, at any depth."""
    stack = list(step.members)
    while stack:
        each = stack.pop()
        yield each
        stack.extend(each.members)
