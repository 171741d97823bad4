"""Follows the Workflow of the demo from its first step to its end, and kills its head on the way."""

from __future__ import annotations

import queue
import time
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from dev import release
from dev.console import SetupError
from dev.demo import trip
from dev.demo.progress import Progress
from dev.kube import Kube
from workflow import reading
from workflow.reading import RunView
from workflow.store import open_store

FIELDS: Final = (".status.phase", ".status.cluster.name", ".status.epoch", ".status.storage", ".status.workflowId")
POLL_SECONDS: Final = 0.2
PROGRESS_SECONDS: Final = 10.0
TERMINAL_PHASES: Final = ("Succeeded", "Failed", "Canceled")
_FIRST_STEP: Final = "the first step"
_KILL: Final = "the commits before the kill"
_RESUMABLE: Final = "the phase Resumable"
_TERMINAL: Final = "a terminal phase"
_TIMEOUT_SECONDS: Final = {_FIRST_STEP: 240.0, _KILL: 90.0, _RESUMABLE: 60.0, _TERMINAL: 300.0}
"""How long the demo waits for each event, in the order of the events."""


class Scenario:
    """The run of one Workflow, from the first step to a terminal phase. It can be run once.

    Args:
        kube: the cluster.
        storage: the MinIO that stores the log of the run.

    Attributes:
        view: the log of the run as last read; None before the run was created.
        status: the status of the Workflow after it reached a terminal phase.
        clusters: the names of its RayClusters, in the order of their creation.
    """

    def __init__(self, kube: Kube, storage: release.Storage) -> None:
        self.view: RunView | None = None
        self.status: dict[str, Any] = {}
        self.clusters: tuple[str, ...] = ()
        self._kube = kube
        self._storage = storage
        self._progress = Progress()
        self._follower: reading.Follower | None = None
        self._phase = ""
        self._phase_times: dict[str, float] = {}
        self._head_pod = ""
        self._killed_at = 0.0
        self._committed = 0
        self._committed_at_kill = 0
        self._awaited = (_FIRST_STEP, time.monotonic())

    def run(self, kill_after: int) -> None:
        """Follow the Workflow to a terminal phase, and kill its head on the way.

        Args:
            kill_after: the number of committed steps after which the head is killed.

        Raises:
            SetupError: an expected event did not happen in time.
        """
        with self._progress, self._kube.watched("workflow", trip.NAME, trip.NAMESPACE, *FIELDS) as changes:
            while not self._is_finished():
                self._process_change(changes)
                self._poll_log()
                self._advance(kill_after)
        found = self._kube.get("workflow", trip.NAME, trip.NAMESPACE)
        self.status = found["status"] if found else {}
        self._poll_log()

    def summary(self) -> str:
        """Return the measured times for the last line of the demo."""
        starts = [step.started for step in self.last_view().steps if step.epoch > 1 and step.started]
        resumable = self._phase_times.get("Resumable", self._killed_at) - self._killed_at
        first = min(starts, default=self._killed_at) - self._killed_at
        return (
            f"killed after {self._committed_at_kill}, RESUMABLE in {resumable:.1f} s, "
            f"first new step {first:.0f} s after the kill"
        )

    def last_view(self) -> RunView:
        """Return the log of the run as last read.

        Raises:
            SetupError: the Workflow finished without a log.
        """
        if self.view is None:
            raise SetupError(f"cannot read the log of the run: there is none; {self._describe_workflow()}")
        return self.view

    def _is_finished(self) -> bool:
        return bool(self._phase_times.keys() & set(TERMINAL_PHASES))

    def _process_change(self, changes: queue.Queue[tuple[float, str]]) -> None:
        """Wait for the next change of the Workflow, at most `POLL_SECONDS`, and print it."""
        try:
            at, line = changes.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        fields = line.split("|", len(FIELDS) - 1)
        if len(fields) != len(FIELDS):
            raise SetupError(f"cannot watch the Workflow: {line}; run `make cluster-status` to check the cluster")
        phase, cluster, epoch, store, workflow_id = fields
        if cluster and cluster not in self.clusters:
            self.clusters = (*self.clusters, cluster)
            self._progress.print_line(f"{'' if len(self.clusters) == 1 else 'new '}RayCluster: {cluster}")
        if phase and phase != self._phase:
            self._phase, self._phase_times[phase] = phase, at
            self._progress.print_line(self._describe_phase(phase, at, epoch))
        if store and workflow_id and self._follower is None:
            self._follow_log(store, workflow_id)

    def _describe_phase(self, phase: str, at: float, epoch: str) -> str:
        if phase == "Resumable" and self._killed_at:
            return f"phase Resumable, {at - self._killed_at:.1f} s after the kill"
        return f"phase {phase}" + (f", epoch {epoch}" if epoch not in ("", "0") else "")

    def _follow_log(self, url: str, workflow_id: str) -> None:
        """Read the log of the run from outside the cluster, through a forwarded port."""
        parts = urlsplit(url)
        forwarded = urlunsplit(parts._replace(query=f"endpoint=http://{self._storage.address}"))
        store = open_store(forwarded, access_key=self._storage.access_key, secret_key=self._storage.secret_key)
        self._follower = reading.Follower(store, workflow_id)

    def _poll_log(self) -> None:
        before, view = self.view, self._follower.poll() if self._follower else None
        if view is not None:
            self.view = view
            if view.epoch == 1:
                self._committed = view.counts.succeeded
            elif before is not None and before.epoch < view.epoch:
                late = self._committed - self._committed_at_kill
                more = f"; the old head committed {late} more before it stopped" if late else ""
                self._progress.print_line(f"epoch {view.epoch}: the new cluster owns the run{more}")
            self._progress.update(view)
        self._progress.print_waiting(PROGRESS_SECONDS)

    def _advance(self, kill_after: int) -> None:
        """Check whether the awaited event happened, kill the head if it is time, or fail after the timeout."""
        event, since = self._awaited
        if event == _FIRST_STEP and self.view is not None:
            # Look the pod up now, so that no time passes between the last commit and the kill.
            self._head_pod = self._find_head_pod()
            self._awaited = (_KILL, time.monotonic())
        elif event == _KILL and self._committed >= kill_after:
            self._kill_head()
            self._awaited = (_RESUMABLE, time.monotonic())
        elif event == _RESUMABLE and "Resumable" in self._phase_times:
            self._awaited = (_TERMINAL, time.monotonic())
        elif time.monotonic() - since > _TIMEOUT_SECONDS[event]:
            raise SetupError(
                f"the Workflow did not reach {event} within {_TIMEOUT_SECONDS[event]:.0f} s; "
                f"{self._describe_workflow()}"
            )

    def _find_head_pod(self) -> str:
        labels = f"ray.io/cluster={self.clusters[-1]},ray.io/node-type=head"
        (head,) = self._kube.objects("pods", trip.NAMESPACE, labels)
        return str(head["metadata"]["name"])

    def _kill_head(self) -> None:
        pod = self._head_pod
        self._killed_at, self._committed_at_kill = time.time(), self._committed
        self._kube.kubectl("-n", trip.NAMESPACE, "delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
        self._progress.print_line(f"killed the head, pod {pod}, after {self._committed_at_kill} committed steps")

    def _describe_workflow(self) -> str:
        """Return the conditions of the Workflow and a command that shows more, for error messages."""
        found = self._kube.get("workflow", trip.NAME, trip.NAMESPACE) or {}
        conditions = (found.get("status") or {}).get("conditions") or []
        listed = [f"{one['type']}={one['status']} {one['reason']}: {one.get('message', '')}" for one in conditions]
        logs = f"kubectl -n {release.NAMESPACE} logs deployment/{release.NAME}"
        return f"its conditions: {'; '.join(listed) or 'none'}; read the log of the operator with `{logs}`"
