"""Which Workflows an event wakes."""

from __future__ import annotations

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import ClusterStatus, WorkflowState
from workflow_operator.watch_index import Key, WatchIndex

TRIP, OTHER = Key("team", "trip"), Key("team", "other")
SELECTING = WorkflowSpec.model_validate(
    {"entrypoint": "trip:book", "cluster": {"selector": {"matchLabels": {"team": "red"}}}}
)
WAITING = WorkflowState()
ON_CLUSTER = WorkflowState(cluster=ClusterStatus(name="trip-1"))


def test_a_cluster_wakes_whom_it_was_made_for_and_who_runs_on_it() -> None:
    interests = WatchIndex()
    interests.note(TRIP, "uid-1", None, WAITING)
    interests.note(OTHER, "uid-2", SELECTING, ON_CLUSTER)
    assert interests.of_cluster("team", "trip-1", "uid-1") == {TRIP, OTHER}
    assert interests.of_cluster("team", "trip-9", "uid-1") == {TRIP}
    assert interests.of_cluster("elsewhere", "trip-1", "") == set()


def test_any_cluster_wakes_who_looks_for_one_in_its_namespace() -> None:
    interests = WatchIndex()
    interests.note(TRIP, "uid-1", SELECTING, WAITING)
    assert interests.of_cluster("team", "new", "") == {TRIP}
    assert interests.of_cluster("elsewhere", "new", "") == set()


def test_a_pod_wakes_who_runs_on_its_cluster_and_follows_a_change() -> None:
    interests = WatchIndex()
    interests.note(TRIP, "uid-1", None, ON_CLUSTER)
    assert interests.of_pod("team", "trip-1") == {TRIP}
    interests.note(TRIP, "uid-1", None, WorkflowState(cluster=ClusterStatus(name="trip-2")))
    assert interests.of_pod("team", "trip-1") == set()
    assert interests.of_pod("team", "trip-2") == {TRIP}


def test_who_is_gone_is_forgotten_wholly() -> None:
    interests = WatchIndex()
    interests.note(TRIP, "uid-1", SELECTING, WAITING)
    interests.forget(TRIP)
    assert interests.of_cluster("team", "new", "uid-1") == set()
    assert not interests._keys
