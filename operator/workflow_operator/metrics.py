"""The operator's Prometheus metrics.

`reconcile.py` records reconciliations and phase changes, and `main.py` serves them. Each operator has its own registry,
so that two operators in one process (in tests) have separate metrics.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.watch_index import Key

DETECTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
RECOVERY_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """All metrics of one operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phases: dict[Key, Phase] = {}
        self._workflows_by_phase: Tally[Phase] = Tally()
        self.reconcile_duration = Histogram(
            "rayworkflow_reconcile_duration_seconds",
            "Duration of a reconciliation in seconds.",
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "rayworkflow_reconcile_errors_total",
            "Number of failed reconciliations, by error class.",
            ["error"],
            registry=self.registry,
        )
        self.workflows = Gauge(
            "rayworkflow_workflows", "Number of Workflows, by phase.", ["phase"], registry=self.registry
        )
        self.resumes = Counter(
            "rayworkflow_resumes_total",
            "Number of submission attempts that resumed a run after a failure.",
            registry=self.registry,
        )
        self.cluster_failures = Counter(
            "rayworkflow_cluster_failures_total",
            "Number of failures of Ray clusters and their drivers, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.failure_detection = Histogram(
            "rayworkflow_failure_detection_duration_seconds",
            "Time from the trigger of a reconciliation to the write of phase Resumable, in seconds.",
            registry=self.registry,
            buckets=DETECTION_BUCKETS,
        )
        self.recovery = Histogram(
            "rayworkflow_recovery_duration_seconds",
            "Time from a failure until the run continues on a cluster, in seconds.",
            registry=self.registry,
            buckets=RECOVERY_BUCKETS,
        )
        self._add_heads()
        self.leader = Gauge("rayworkflow_leader", "1 if this replica is the leader, else 0.", registry=self.registry)
        self.foreign_namespaces = Gauge(
            "rayworkflow_foreign_namespaces",
            "Number of watched namespaces that another installation serves.",
            registry=self.registry,
        )

    def _add_heads(self) -> None:
        """Add the metrics of the heads that the operator asks."""
        self.unreachable_heads = Gauge(
            "rayworkflow_unreachable_heads",
            "Number of heads that did not reply to the last request.",
            registry=self.registry,
        )
        self.network_suspected = Gauge(
            "rayworkflow_network_suspected",
            "1 if so many heads became unreachable together that the operator suspects its own network, else 0.",
            registry=self.registry,
        )

    @contextmanager
    def measure_reconcile(self) -> Iterator[None]:
        """Measure the duration of a reconciliation. If it raises, count the failure by the class of its error."""
        with self.reconcile_duration.time():
            try:
                yield
            except Exception as error:
                self.reconcile_errors.labels(error=type(error).__name__).inc()
                raise

    def record_change(self, before: WorkflowState, after: WorkflowState, seconds: float) -> None:
        """Record a write of a Workflow's status.

        Args:
            before: the status before the write.
            after: the status that was written.
            seconds: time since the event or timer that triggered the reconciliation.
        """
        if after.resumes.total > before.resumes.total:
            self.resumes.inc(after.resumes.total - before.resumes.total)
        if after.last_failure is not None and after.last_failure != before.last_failure:
            self.cluster_failures.labels(reason=after.last_failure.reason).inc()
        if before.phase is after.phase:
            return
        if after.phase is Phase.RESUMABLE:
            self.failure_detection.observe(seconds)
        if after.phase is Phase.RUNNING and after.last_failure is not None and after.phase_time is not None:
            self.recovery.observe(max(after.phase_time - after.last_failure.time, 0.0))

    def set_phase(self, key: Key, phase: Phase | None) -> None:
        """Count a Workflow in its current phase."""
        self.remove(key)
        if phase is not None:
            self._phases[key] = phase
            self._add(phase, 1)

    def remove(self, key: Key) -> None:
        """Stop counting a Workflow that no longer exists."""
        phase = self._phases.pop(key, None)
        if phase is not None:
            self._add(phase, -1)

    def stop_leading(self) -> None:
        """Forget what only the leader knows: it counts no Workflows any more."""
        self.leader.set(0)
        self.foreign_namespaces.set(0)
        for key in list(self._phases):
            self.remove(key)

    def exposition(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _add(self, phase: Phase, change: int) -> None:
        self._workflows_by_phase[phase] += change
        self.workflows.labels(phase=phase.value).set(self._workflows_by_phase[phase])
