"""Decisions for a Workflow whose namespace is being deleted: no new attempt, a short cleanup, and nothing left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.build import NOW, cluster, observation_of, read, running, spec, state, view, workflow
from tests.unit.operator.cases import FAILURE, LIVE, RESUMABLE, W
from workflow_operator.api.spec import Retention
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import (
    AbandonCleanup,
    CreateCluster,
    DeferCleanup,
    DeleteCheckpoints,
    EmitEvent,
    EndRun,
    ReleaseRun,
    RemoveFinalizer,
)
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.deleting import DEADLINE_SECONDS, REFUSED_SECONDS, TERMINATING_SECONDS
from workflow_operator.core.observation import Observation, RunReadFailure, SecretView, StoreFailure

DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")
NO_SECRET = SecretView("store", present=False)
WITH_ID = spec(workflowId="nightly")
WITH_DELETE = spec(checkpoints={"retention": Retention.DELETE.value})


def terminating(phase: Phase = Phase.RUNNING, deleted: float | None = NOW, **changes: Any) -> Observation:
    """Return the observation of a Workflow in a namespace that is being deleted."""
    spec_, finalizers = changes.pop("spec_", spec()), changes.pop("finalizers", None)
    obj = workflow(state(phase, last_failure=FAILURE), spec=spec_, deleted=deleted)
    obj = obj if finalizers is None else replace(obj, finalizers=finalizers)
    return observation_of(obj, namespace_terminating=True, **{"run": DOWN, **changes})


def types(observation: Observation, now: float = NOW) -> list[type]:
    return [type(action) for action in decide(observation, now).actions]


@pytest.mark.parametrize("deleted", [NOW, None], ids=["object deleted", "object not deleted yet"])
@pytest.mark.parametrize("phase", LIVE, ids=str)
def test_no_attempt_starts_in_a_terminating_namespace(phase: Phase, deleted: float | None) -> None:
    for run in (read(), read(view(), RESUMABLE), DOWN):
        obj = workflow(state(phase, last_failure=FAILURE), deleted=deleted)
        decision = decide(replace(running(obj), run=run, namespace_terminating=True), NOW + 5)
        assert not [each for each in decision.actions if isinstance(each, CreateCluster)]
        assert decision.state.attempt == obj.state.attempt
        assert decision.state.cluster is None


CLEANUPS: dict[str, tuple[Observation, list[type]]] = {
    "running": (terminating(run=read(view())), [EndRun]),
    "running, workflowId": (terminating(run=read(view()), spec_=WITH_ID), [ReleaseRun]),
    "running, retention Delete": (terminating(run=read(view()), spec_=WITH_DELETE), [DeleteCheckpoints]),
    "not deleted yet": (terminating(deleted=None, run=read(view())), [EndRun]),
    "run is canceled": (terminating(run=read(view(W.CANCELED))), [RemoveFinalizer]),
    "store down": (terminating(), [EndRun]),
    "Secret gone: success of the action is enough": (
        terminating(run=None, secret=NO_SECRET),
        [EndRun, RemoveFinalizer],
    ),
    "finalizer removed before": (terminating(deleted=None, finalizers=()), []),
}


@pytest.mark.parametrize(("observation", "wanted"), CLEANUPS.values(), ids=CLEANUPS)
def test_cleanup_in_a_terminating_namespace(observation: Observation, wanted: list[type]) -> None:
    assert types(observation) == wanted


def test_cleanup_that_needs_the_secret_is_abandoned() -> None:
    """A ConfigMap about it could never be finished."""
    observation = terminating(run=None, secret=NO_SECRET)
    assert types(observation, NOW + TERMINATING_SECONDS - 0.5) == [EndRun, RemoveFinalizer]
    event, abandoned, last = decide(observation, NOW + TERMINATING_SECONDS).actions
    assert isinstance(event, EmitEvent)
    assert isinstance(abandoned, AbandonCleanup)
    assert (event.reason, abandoned.what, last) == ("CleanupAbandoned", "cancel", RemoveFinalizer())
    assert "stays in storage as it is" in event.message
    assert "together with Secret store" in abandoned.why


def test_cleanup_without_a_secret_is_deferred() -> None:
    """The operator's own credentials can finish it after the namespace is gone."""
    obj = workflow(state(Phase.RUNNING, secret_name=""), deleted=NOW)
    observation = observation_of(obj, run=DOWN, secret=None, namespace_terminating=True)
    assert types(observation, NOW + TERMINATING_SECONDS) == [DeferCleanup, RemoveFinalizer]


def test_missing_secret_does_not_prolong_a_deletion() -> None:
    obj = workflow(state(Phase.RUNNING), deleted=NOW)
    observation = observation_of(obj, run=None, secret=NO_SECRET)
    assert types(observation) == [EndRun, RemoveFinalizer]
    assert types(observation, NOW + DEADLINE_SECONDS) == [DeferCleanup, RemoveFinalizer]


def test_cleanup_that_cannot_be_deferred_is_abandoned() -> None:
    """The operator's own namespace may have a quota, or may be deleted at the same time."""
    obj = workflow(state(Phase.RUNNING), deleted=NOW)
    observation = observation_of(obj, run=DOWN, refused="HTTP 403: exceeded quota")
    late = NOW + DEADLINE_SECONDS + REFUSED_SECONDS
    assert types(observation, late - 0.5) == [DeferCleanup, RemoveFinalizer]
    assert types(observation, late) == [EmitEvent, AbandonCleanup, RemoveFinalizer]


def test_clusters_are_deleted_with_the_namespace() -> None:
    decision = decide(terminating(clusters=(cluster(),), deleted=None, run=read(view(W.CANCELED))), NOW)
    assert [type(action).__name__ for action in decision.actions] == ["DeleteCluster", "RemoveFinalizer"]
