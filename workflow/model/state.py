"""What a fold of the log holds in memory: the run and its step executions.

Changed by `fold.apply` alone; everybody else reads. One object a step, with slots: a manager keeps every step of its
live runs, so their size is what bounds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from workflow.model.graph import StepKind, StepSpec, Value
from workflow.model.records import Created, StatusChanged
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.status import StepPhase, WorkflowStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """What every consumer of a step sees.

    Attributes:
        value: the pickle; empty where it is held.
        caught: the value is an exception; the outcome begins as `(None, exception)`.
        wraps: how often it is then made `(outcome, None)`, once for each catching step that it came through.
        held: the step without a checkpoint that returned it; only the owner of that epoch has the value. Or empty.
    """

    value: Value
    caught: bool = False
    wraps: int = 0
    held: str = ""

    def through(self, catching: bool) -> Outcome:
        """The outcome of a step whose sub-DAG ended with this one."""
        return replace(self, wraps=self.wraps + 1) if catching else self


class StepState:
    """One step execution.

    Attributes:
        scope: the dynamic step whose sub-DAG it belongs to, or None.
        pending_parents: parents that have no outcome yet.
        dependants: steps that take its outcome.
        resolves: the dynamic step that gets this step's outcome, because this is its sub-DAG's output; or None.
        catcher: the nearest enclosing dynamic step that catches exceptions, or None.
        checkpoint: whether its value is to be stored, by its own options or those of the steps around it.
        members: the steps of its sub-DAG, after it expanded.
        is_run_output: its outcome is the run's, directly or through the dynamic steps it is the output of.
        text: rendering of its value.
        due: when its sleep is over, in seconds since 1970, once its timer is set.
        attempt: of this epoch; the last one's number.
        failed_attempts: how many of them raised and were followed by another.
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
        self.catcher: StepState | None = None
        if scope is not None:
            self.catcher = scope if scope.spec.options.catch_exceptions else scope.catcher
        wanted = spec.options.checkpoint
        self.checkpoint: bool = wanted if wanted is not None else scope is None or scope.checkpoint
        self.members: tuple[StepState, ...] = ()
        self.outcome: Outcome | None = None
        self.error: ErrorInfo | None = None
        self.error_value: Value | None = None
        self.text = ""
        self.attempt = 0
        self.failed_attempts = 0
        self.epoch = 0
        self.started = 0.0
        self.ended = 0.0
        self.due = 0.0

    @property
    def needs_worker(self) -> bool:
        """Whether it takes a place in the cluster while it runs; waits take none."""
        return self.spec.kind is StepKind.TASK

    @property
    def checkpointed(self) -> bool:
        """Whether its value is stored: the run's own always is."""
        return self.checkpoint or self.is_run_output

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it, in this epoch."""
        return self.phase in FINISHED


@dataclass(frozen=True, slots=True)
class EphemeralLoss:
    """Stands in the journal where a step lost the value that it had passed."""

    step: StepState


FINISHED = frozenset({StepPhase.COMMITTED, StepPhase.FAILED, StepPhase.CANCELED})


@dataclass(slots=True)
class RunState:
    """A run, as its log says up to `seq`.

    Attributes:
        seq: the last segment folded; 0 where only Created was.
        epoch_started: when the epoch that goes on now was claimed, in seconds since 1970.
        goodbye: the owner left on purpose and nobody has claimed since.
        stalled: claims in a row without a commit or an expansion between them.
        culprits: steps that ran at each death since the last progress.
        handled_requests: ids of the inbox requests that took effect.
        functions: what later epochs brought instead of the functions stored with the run.
        terminal: the record that ended the run, and the seq of its segment.
        steps: by id, in the order in which they came into being.
        output: the step whose outcome is the run's.
        journal: steps in the order of their outcomes and expansions, and what was voided between them: an order in
            which they can be folded again.
        ephemeral: the steps whose value is held, by id; and how many steps may still take it. 0: it was let go.
        ready: the steps that may be started and take a place in the cluster, in order.
        waits: those that may be started and take none.
        running: the steps started in this epoch without an outcome.
        flying: how many of them take a place in the cluster.
        sleeping: the steps whose timers are set.
        phases: how many steps are in each phase.
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
        """Whether the log is closed."""
        return self.terminal is not None

    @property
    def only_waiting(self) -> bool:
        """Whether nothing goes on but waits: sleeps, and events that are listened for."""
        return not self.running_tasks and not self.ready and bool(self.sleeping or self.running or self.waits)

    @property
    def succeeded(self) -> int:
        """How many steps have an outcome."""
        return self.phases[StepPhase.COMMITTED]

    @property
    def failed(self) -> int:
        """How many steps failed without being caught."""
        return self.phases[StepPhase.FAILED]

    def active_steps(self) -> list[StepState]:
        """The steps that may be started, or were, and have no outcome; in order."""
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
        """The step may be started from now on. For `fold` alone, as what follows."""
        self.set_phase(step, StepPhase.READY)
        (self.ready if step.needs_worker else self.waits)[step.spec.step_id] = step

    def make_running(self, step: StepState) -> None:
        """The step was started, perhaps once more."""
        if step.phase is not StepPhase.RUNNING:
            self.deactivate(step)
            self.running[step.spec.step_id] = step
            self.running_tasks += step.needs_worker
            self.set_phase(step, StepPhase.RUNNING)

    def deactivate(self, step: StepState) -> None:
        """The step is neither ready nor running nor sleeping any more."""
        step_id = step.spec.step_id
        (self.ready if step.needs_worker else self.waits).pop(step_id, None)
        self.running_tasks -= self.running.pop(step_id, None) is not None and step.needs_worker
        self.sleeping.pop(step_id, None)


def below(step: StepState) -> Iterator[StepState]:
    """All steps of the sub-DAG of `step`, at any depth."""
    stack = list(step.members)
    while stack:
        each = stack.pop()
        yield each
        stack.extend(each.members)
