"""Metrics of reconciliations and phase changes."""

from __future__ import annotations

from workflow_operator.api.status import Failure, Phase, Resumes, WorkflowState
from workflow_operator.metrics import Metrics
from workflow_operator.watch_index import Key

TRIP = Key("team", "trip")
FAILURE = Failure(time=100.0, reason="HeadPodLost", message="gone")


def test_workflow_is_counted_only_in_its_current_phase() -> None:
    metrics = Metrics()
    metrics.set_phase(TRIP, Phase.RUNNING)
    metrics.set_phase(TRIP, Phase.RESUMABLE)
    text = metrics.exposition().decode()
    assert 'rayworkflow_workflows{phase="Running"} 0.0' in text
    assert 'rayworkflow_workflows{phase="Resumable"} 1.0' in text
    metrics.remove(TRIP)
    assert 'rayworkflow_workflows{phase="Resumable"} 0.0' in metrics.exposition().decode()


def test_failure_detection_and_recovery_are_measured() -> None:
    metrics = Metrics()
    running = WorkflowState(phase=Phase.RUNNING)
    failed = WorkflowState(phase=Phase.RESUMABLE, last_failure=FAILURE)
    resumed = WorkflowState(phase=Phase.RUNNING, phase_time=130.0, last_failure=FAILURE, resumes=Resumes(total=1))
    metrics.record_change(running, failed, seconds=0.2)
    metrics.record_change(failed, resumed, seconds=0.1)
    text = metrics.exposition().decode()
    assert 'rayworkflow_cluster_failures_total{reason="HeadPodLost"} 1.0' in text
    assert 'rayworkflow_failure_detection_duration_seconds_bucket{le="0.25"} 1.0' in text
    assert "rayworkflow_recovery_duration_seconds_sum 30.0" in text
    assert "rayworkflow_resumes_total 1.0" in text


def test_first_start_does_not_count_as_a_recovery() -> None:
    metrics = Metrics()
    metrics.record_change(
        WorkflowState(phase=Phase.PROVISIONING), WorkflowState(phase=Phase.RUNNING, phase_time=1.0), 0.1
    )
    assert "rayworkflow_recovery_duration_seconds_count 0.0" in metrics.exposition().decode()
