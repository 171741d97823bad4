"""The index of Workflows by the RayClusters and pods that they depend on."""

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


def test_cluster_is_found_by_uid_label_and_by_name_in_status() -> None:
    index = WatchIndex()
    index.update(TRIP, "uid-1", None, WAITING)
    index.update(OTHER, "uid-2", SELECTING, ON_CLUSTER)
    assert index.by_cluster("team", "trip-1", "uid-1") == {TRIP, OTHER}
    assert index.by_cluster("team", "trip-9", "uid-1") == {TRIP}
    assert index.by_cluster("elsewhere", "trip-1", "") == set()


def test_selector_depends_on_all_clusters_of_its_namespace() -> None:
    index = WatchIndex()
    index.update(TRIP, "uid-1", SELECTING, WAITING)
    assert index.by_cluster("team", "new", "") == {TRIP}
    assert index.by_cluster("elsewhere", "new", "") == set()


def test_pod_is_found_by_the_current_cluster_of_the_workflow() -> None:
    index = WatchIndex()
    index.update(TRIP, "uid-1", None, ON_CLUSTER)
    assert index.by_pod("team", "trip-1") == {TRIP}
    index.update(TRIP, "uid-1", None, WorkflowState(cluster=ClusterStatus(name="trip-2")))
    assert index.by_pod("team", "trip-1") == set()
    assert index.by_pod("team", "trip-2") == {TRIP}


def test_removed_workflow_leaves_no_entries() -> None:
    index = WatchIndex()
    index.update(TRIP, "uid-1", SELECTING, WAITING)
    index.remove(TRIP)
    assert index.by_cluster("team", "new", "uid-1") == set()
    assert not index._keys
