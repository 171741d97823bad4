"""The input and output types of the phase functions.

A `ReconcileContext` is the observation of one round together with the interpreted log. An `Outcome` is a new state, its
explanation, and actions. `decide` derives conditions, events and obsolete clusters from it, in the same way for each
phase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workflow_operator.api.spec import DEFAULT_DEADLINE_SECONDS, FailureDetection, Recovery, WorkflowSpec
from workflow_operator.api.status import WorkflowState
from workflow_operator.core.actions import Action, RunRef
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.log_facts import LogFacts
from workflow_operator.core.observation import Observation, WorkflowObject
from workflow_operator.core.read_plan import run_of, store_of
from workflow_operator.core.state import Event, move

SLOW_POLL = 30.0


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """The input of a phase function.

    Attributes:
        observation: what `observe` read in this round.
        now: seconds since 1970.
        state: the status of the Workflow, updated from the log.
        facts: what the log implies for this Workflow.
    """

    observation: Observation
    now: float
    state: WorkflowState
    facts: LogFacts

    @property
    def workflow(self) -> WorkflowObject:
        """The Workflow object."""
        return self.observation.workflow

    @property
    def spec(self) -> WorkflowSpec | None:
        """The spec, or None if it is invalid."""
        return self.observation.workflow.spec

    @property
    def recovery(self) -> Recovery:
        """How to recover; the defaults if the spec is invalid."""
        return self.spec.recovery if self.spec else Recovery()

    @property
    def unreachable_seconds(self) -> float:
        """Seconds without a reply from the head after which its cluster counts as failed."""
        return (self.spec.failure_detection if self.spec else FailureDetection()).unreachable_seconds

    @property
    def deadline_seconds(self) -> float:
        """Seconds within which the submission of an attempt must run."""
        return self.spec.pre_running_deadline_seconds if self.spec else DEFAULT_DEADLINE_SECONDS

    @property
    def cancel_requested(self) -> bool:
        """Whether spec.cancel is true."""
        return self.spec is not None and self.spec.cancel

    @property
    def is_deleted(self) -> bool:
        """Whether the object is being deleted, or its namespace is, and then the object will be, too."""
        return self.workflow.deleted is not None or self.observation.namespace_terminating

    def run(self) -> RunRef | None:
        """Return the run in the state, with this Workflow as the requester; None if no storage is known."""
        store = store_of(self.workflow, self.observation.defaults)
        if store is None:
            return None
        return run_of(replace(self.workflow, state=self.state), store)

    def with_state(self, **changes: object) -> ReconcileContext:
        """Return the same context with a changed state."""
        return replace(self, state=self.state.model_copy(update=changes))

    def move(
        self, event: Event, explanation: Explanation, requeue_after: float | None = 0.0, **changes: object
    ) -> Outcome:
        """Return the outcome of a transition to another phase.

        Args:
            event: the event that causes the transition.
            explanation: why the transition happens.
            requeue_after: the longest delay until the next round, in seconds.
            changes: further changes of the state.
        """
        state = move(self.state, event, self.now).model_copy(update=changes)
        return Outcome(state, explanation, (), requeue_after)

    def stay(
        self, explanation: Explanation, requeue_after: float | None, *actions: Action, **changes: object
    ) -> Outcome:
        """Return the outcome of staying in the phase.

        Args:
            explanation: what the Workflow waits for.
            requeue_after: the longest delay until the next round, in seconds.
            actions: the actions to execute, in order.
            changes: changes of the state.
        """
        return Outcome(self.state.model_copy(update=changes), explanation, actions, requeue_after)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output of a phase function.

    Attributes:
        state: the new state, with the old conditions.
        explanation: why the Workflow is in this state, or what it waits for.
        actions: the actions to execute, in order.
        requeue_after: the longest delay until the next round, in seconds; None in a terminal phase.
    """

    state: WorkflowState
    explanation: Explanation
    actions: tuple[Action, ...]
    requeue_after: float | None


def earliest(*delays: float) -> float:
    """Return the shortest of several delays in seconds, and at least zero."""
    return max(min(delays), 0.0)
