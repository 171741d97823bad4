"""What is counted when a Workflow moves."""

from __future__ import annotations

from workflow_operator.api.status import Failure, Phase, Resumes, WorkflowState
from workflow_operator.metrics import Metrics
from workflow_operator.watch_index import Key

TRIP = Key("team", "trip")
FAILURE = Failure(time=100.0, reason="HeadPodLost", message="gone")


def test_a_workflow_is_counted_in_its_phase_only() -> None:
    metrics = Metrics()
    metrics.seen(TRIP, Phase.RUNNING)
    metrics.seen(TRIP, Phase.RESUMABLE)
    text = metrics.exposed().decode()
    assert 'rayworkflow_workflows{phase="Running"} 0.0' in text
    assert 'rayworkflow_workflows{phase="Resumable"} 1.0' in text
    metrics.forget(TRIP)
    assert 'rayworkflow_workflows{phase="Resumable"} 0.0' in metrics.exposed().decode()


def test_a_failure_and_the_resume_after_it_are_measured() -> None:
    metrics = Metrics()
    running = WorkflowState(phase=Phase.RUNNING)
    failed = WorkflowState(phase=Phase.RESUMABLE, last_failure=FAILURE)
    again = WorkflowState(phase=Phase.RUNNING, phase_time=130.0, last_failure=FAILURE, resumes=Resumes(total=1))
    metrics.moved(running, failed, seconds=0.2)
    metrics.moved(failed, again, seconds=0.1)
    text = metrics.exposed().decode()
    assert 'rayworkflow_cluster_failures_total{reason="HeadPodLost"} 1.0' in text
    assert 'rayworkflow_time_to_resumable_seconds_bucket{le="0.25"} 1.0' in text
    assert "rayworkflow_time_to_resume_seconds_sum 30.0" in text
    assert "rayworkflow_resumes_total 1.0" in text


def test_the_first_start_is_no_resume() -> None:
    metrics = Metrics()
    metrics.moved(WorkflowState(phase=Phase.PROVISIONING), WorkflowState(phase=Phase.RUNNING, phase_time=1.0), 0.1)
    assert "rayworkflow_time_to_resume_seconds_count 0.0" in metrics.exposed().decode()
