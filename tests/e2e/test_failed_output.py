"""After a failure, the driver's log is in storage, and the RayCluster is kept if the Workflow retains it."""

from __future__ import annotations

import pytest

from tests.e2e.namespace import BOOT_SECONDS, WorkflowNamespace, ray_cluster_spec
from workflow.reading import read_driver_logs
from workflow_operator.api.status import Phase, WorkflowState

NAME = "half-done"


@pytest.fixture(scope="module")
def namespace(namespaces: dict[str, WorkflowNamespace]) -> WorkflowNamespace:
    namespace = namespaces["e2e-refused"]
    cluster = {"template": {"spec": ray_cluster_spec()}, "retain": "OnFailure", "retainSeconds": 600}
    namespace.create(NAME, "flows:half_done", cluster=cluster)
    return namespace


@pytest.fixture(scope="module")
def failed(namespace: WorkflowNamespace) -> WorkflowState:
    """The status after the failure, when the log of the driver is stored."""
    failed = namespace.until_phase(NAME, Phase.FAILED, BOOT_SECONDS)
    stored = namespace.histories.until(NAME, lambda event: bool(log_location(event.state)), 30.0, failed)
    assert stored is not None, namespace.diagnosis(NAME, "the log of its driver was not stored within 30 s")
    return stored.state


def log_location(state: WorkflowState) -> str:
    return state.driver_log.location if state.driver_log is not None else ""


def test_log_of_the_driver_shows_the_failure(namespace: WorkflowNamespace, failed: WorkflowState) -> None:
    (text,) = read_driver_logs(namespace.store(), failed.workflow_id).values()
    assert "KeyError: 'SAN'" in text
    assert failed.submission is not None
    assert log_location(failed).endswith(f"/drivers/{failed.submission.id}")


def test_cluster_is_kept_until_it_is_released(namespace: WorkflowNamespace, failed: WorkflowState) -> None:
    kept = failed.retained_cluster
    assert kept is not None, namespace.diagnosis(NAME, "its RayCluster is not retained")
    assert namespace.python_in_head(kept.name, "print('alive')").strip() == "alive"
    namespace.patch(NAME, {"spec": {"cluster": {"retain": "Never"}}})
    namespace.until_no_cluster(NAME)
