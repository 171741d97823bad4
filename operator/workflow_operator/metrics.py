"""What the operator counts, for Prometheus.

`reconcile.py` tells it of rounds and of phases entered; `main.py` serves it. A registry of its own, so that two
operators in one process (in tests) do not count together.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.watch_index import Key

DETECTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
RESUME_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """All figures of one operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phases: dict[Key, Phase] = {}
        self._tally: Tally[Phase] = Tally()
        self.rounds = Histogram("rayworkflow_reconcile_seconds", "Seconds of one round.", registry=self.registry)
        self.errors = Counter(
            "rayworkflow_reconcile_errors_total", "Rounds that failed, by error.", ["kind"], registry=self.registry
        )
        self.phases = Gauge("rayworkflow_workflows", "Workflows in each phase.", ["phase"], registry=self.registry)
        self.resumes = Counter("rayworkflow_resumes_total", "Attempts that followed a failure.", registry=self.registry)
        self.failures = Counter(
            "rayworkflow_cluster_failures_total", "Failures of clusters, by reason.", ["reason"], registry=self.registry
        )
        self.detection = Histogram(
            "rayworkflow_time_to_resumable_seconds",
            "Seconds from the event that told of a failure until the Workflow's status says Resumable.",
            registry=self.registry,
            buckets=DETECTION_BUCKETS,
        )
        self.recovery = Histogram(
            "rayworkflow_time_to_resume_seconds",
            "Seconds from a failure until the run continues on a cluster.",
            registry=self.registry,
            buckets=RESUME_BUCKETS,
        )
        self.leader = Gauge("rayworkflow_leader", "1 while this replica leads.", registry=self.registry)

    @contextmanager
    def round(self) -> Iterator[None]:
        """Measure a round, and count it by the class of its error if it fails."""
        with self.rounds.time():
            try:
                yield
            except Exception as error:
                self.errors.labels(kind=type(error).__name__).inc()
                raise

    def moved(self, before: WorkflowState, after: WorkflowState, seconds: float) -> None:
        """A status was written.

        Args:
            before: the status that was there.
            after: the one that was written.
            seconds: since the event that woke the round.
        """
        if after.resumes.total > before.resumes.total:
            self.resumes.inc(after.resumes.total - before.resumes.total)
        if after.last_failure is not None and after.last_failure != before.last_failure:
            self.failures.labels(reason=after.last_failure.reason).inc()
        if before.phase is after.phase:
            return
        if after.phase is Phase.RESUMABLE:
            self.detection.observe(seconds)
        if after.phase is Phase.RUNNING and after.last_failure is not None and after.phase_time is not None:
            self.recovery.observe(max(after.phase_time - after.last_failure.time, 0.0))

    def seen(self, key: Key, phase: Phase | None) -> None:
        """A Workflow is in this phase."""
        self.forget(key)
        if phase is not None:
            self._phases[key] = phase
            self._count(phase, 1)

    def forget(self, key: Key) -> None:
        """A Workflow is gone."""
        phase = self._phases.pop(key, None)
        if phase is not None:
            self._count(phase, -1)

    def exposed(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count(self, phase: Phase, change: int) -> None:
        self._tally[phase] += change
        self.phases.labels(phase=phase.value).set(self._tally[phase])
