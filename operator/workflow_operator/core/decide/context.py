"""One round of deciding: what every phase's function gets, and what it answers.

A `Turn` is the observation with the log already understood; an `Outcome` is a new state, one note that says why, and
what to do. `decide` makes conditions, events and clean-up of it, the same way for every phase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workflow_operator.api.spec import FailureDetection, Recovery, WorkflowSpec
from workflow_operator.api.status import WorkflowState
from workflow_operator.core.actions import Action, RunRef
from workflow_operator.core.conditions import Note
from workflow_operator.core.log_facts import LogFacts
from workflow_operator.core.observation import Observation, WorkflowObject
from workflow_operator.core.read_plan import run_of, store_of
from workflow_operator.core.state import Event, move

DEFAULT_DEADLINE = 1800.0
SLOW_POLL = 30.0


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """What a phase's function may look at.

    Attributes:
        seen: the observation.
        now: seconds since 1970.
        state: the object's status, brought up to date with the log.
        facts: what the log says about this object.
    """

    seen: Observation
    now: float
    state: WorkflowState
    facts: LogFacts

    @property
    def workflow(self) -> WorkflowObject:
        """The object."""
        return self.seen.workflow

    @property
    def spec(self) -> WorkflowSpec | None:
        """Its spec, or None where it was refused."""
        return self.seen.workflow.spec

    @property
    def recovery(self) -> Recovery:
        """How to recover; the defaults where the spec was refused."""
        return self.spec.recovery if self.spec else Recovery()

    @property
    def unreachable_seconds(self) -> float:
        """Seconds that a head may be silent."""
        return (self.spec.failure_detection if self.spec else FailureDetection()).unreachable_seconds

    @property
    def deadline_seconds(self) -> float:
        """Seconds that an attempt, or a wait before one, may take until a submission runs."""
        return self.spec.pre_running_deadline_seconds if self.spec else DEFAULT_DEADLINE

    @property
    def cancel_wanted(self) -> bool:
        """spec.cancel is true."""
        return self.spec is not None and self.spec.cancel

    def run(self) -> RunRef | None:
        """The run that the state names, with this object as actor; None where no storage is known."""
        store = store_of(self.workflow, self.seen.defaults)
        if store is None:
            return None
        actor = run_of(self.workflow, store)
        return RunRef(
            store,
            actor.workflow_id,
            self.state.run_number,
            self.state.run_id,
            actor.uid,
            self.state.attempt,
            actor.name,
        )

    def with_state(self, **changes: object) -> ReconcileContext:
        """The same round with some changes of the state."""
        return replace(self, state=self.state.model_copy(update=changes))

    def moved(self, event: Event, note: Note, requeue_after: float | None = 0.0, **changes: object) -> Outcome:
        """The outcome of an event, with some more changes of the state."""
        return Outcome(move(self.state, event, self.now).model_copy(update=changes), note, (), requeue_after)

    def stays(self, note: Note, requeue_after: float | None, *actions: Action, **changes: object) -> Outcome:
        """The outcome of staying in the phase, with some changes of the state."""
        return Outcome(self.state.model_copy(update=changes), note, actions, requeue_after)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a phase's function answers.

    Attributes:
        state: the new state, without conditions.
        note: why it is there, or what it waits for.
        actions: what to do, in order.
        requeue_after: seconds until the next round at the latest, or None in a terminal phase.
    """

    state: WorkflowState
    note: Note
    actions: tuple[Action, ...]
    requeue_after: float | None


def sooner(*seconds: float) -> float:
    """The shortest of some waits, never negative."""
    return max(min(seconds), 0.0)
