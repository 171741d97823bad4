"""The input of a phase function: settings from the spec or their defaults, and the run of the updated state."""

from __future__ import annotations

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, observation_of, spec, state, workflow
from workflow_operator.api.spec import Recovery, WorkflowSpec
from workflow_operator.api.status import Phase
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.log_facts import LogFacts, Ownership
from workflow_operator.core.observation import Defaults, Observation
from workflow_operator.core.state import Event

SET = spec(
    recovery={"maxResumes": 7}, failureDetection={"unreachableSeconds": 300}, preRunningDeadlineSeconds=90, cancel=True
)
WHY = Explanation("Because", "of a test")


def context(of_spec: WorkflowSpec | None = SET, defaults: Defaults = build.DEFAULTS) -> ReconcileContext:
    obj = workflow(state(Phase.RUNNING), spec=of_spec)
    return ReconcileContext(Observation(obj, defaults), NOW, obj.state, LogFacts(Ownership.OURS))


@pytest.mark.parametrize(
    ("of_spec", "expected"),
    [
        (SET, (Recovery(max_resumes=7), 300, 90, True)),
        (spec(), (Recovery(), 60, 1800, False)),
        (None, (Recovery(), 60, 1800, False)),
    ],
    ids=["set", "defaults", "invalid spec"],
)
def test_settings_come_from_the_spec(of_spec: WorkflowSpec | None, expected: tuple[object, ...]) -> None:
    found = context(of_spec)
    assert (found.recovery, found.unreachable_seconds, found.deadline_seconds, found.cancel_requested) == expected


def test_run_is_that_of_the_updated_state() -> None:
    updated = context().with_state(run_number=9, run_id="nine", attempt=4)
    assert updated.workflow.state.run_number == 1
    run = updated.run()
    assert run is not None
    assert (run.run_number, run.run_uuid, run.attempt, run.uid) == (9, "nine", 4, build.UID)


def test_run_needs_a_known_storage() -> None:
    obj = workflow(state(Phase.PENDING, attempt=0))
    assert ReconcileContext(observation_of(obj, defaults=Defaults()), NOW, obj.state, context().facts).run() is None


def test_outcome_has_the_phase_delay_and_further_changes() -> None:
    found = context()
    moved = found.move(Event.ATTEMPT_FAILED, WHY, attempt=2)
    expected = found.state.model_copy(update={"phase": Phase.RESUMABLE, "phase_time": NOW, "attempt": 2})
    assert moved == Outcome(expected, WHY, (), 0.0)
    assert found.move(Event.LOG_FAILED, WHY, None).requeue_after is None
    assert found.stay(WHY, 3.0, attempt=2) == Outcome(found.state.model_copy(update={"attempt": 2}), WHY, (), 3.0)


@pytest.mark.parametrize(("delays", "expected"), [((5.0, 3.0), 3.0), ((5.0,), 5.0), ((5.0, -1.0), 0.0), ((0.5,), 0.5)])
def test_earliest_delay_is_never_negative(delays: tuple[float, ...], expected: float) -> None:
    assert earliest(*delays) == expected
