"""Follows the Workflow from its first step over the death of its head to its end, and tells of it as it goes."""

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
LOOK_EVERY: Final = 0.2
SILENT_FOR: Final = 10.0
ENDS: Final = ("Succeeded", "Failed", "Canceled")
_WITHIN: Final = {"the first step": 240.0, "the kill": 90.0, "Resumable": 60.0, "the end": 300.0}


class Story:
    """One Workflow, told once.

    Args:
        kube: the cluster.
        storage: where its log lies.

    Attributes:
        view: its log as last read; None before the first submission made the run.
        status: the object's status at the end.
        clusters: names of its RayClusters, in the order in which they came.
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
        self._phases: dict[str, float] = {}
        self._victim = ""
        self._killed = 0.0
        self._committed = 0
        self._killed_after = 0
        self._chapter = ("the first step", time.monotonic())

    def tell(self, kill_after: int) -> None:
        """Watch it run, kill its head after so many commits, and watch it end.

        Raises:
            SetupError: it did not come as far as it should in time.
        """
        with self._progress, self._kube.watched("workflow", trip.NAME, trip.NAMESPACE, *FIELDS) as changes:
            while not self._ended():
                self._hear(changes)
                self._look()
                self._turn_page(kill_after)
        found = self._kube.get("workflow", trip.NAME, trip.NAMESPACE)
        self.status = found["status"] if found else {}
        self._look()

    def summary(self) -> str:
        """The figures, for the last line."""
        starts = [step.started for step in self.seen().steps if step.epoch > 1 and step.started]
        resumable = self._phases.get("Resumable", self._killed) - self._killed
        first = min(starts, default=self._killed) - self._killed
        return (
            f"killed after {self._killed_after}, RESUMABLE in {resumable:.1f} s, "
            f"first new step {first:.0f} s after the kill"
        )

    def seen(self) -> RunView:
        """The log.

        Raises:
            SetupError: there is none.
        """
        if self.view is None:
            raise SetupError(f"the Workflow ended and left no log; {self._complaint()}")
        return self.view

    def _ended(self) -> bool:
        return bool(self._phases.keys() & set(ENDS))

    def _hear(self, changes: queue.Queue[tuple[float, str]]) -> None:
        """Take in what the watch brought; wait a moment where it brought nothing."""
        try:
            at, line = changes.get(timeout=LOOK_EVERY)
        except queue.Empty:
            return
        fields = line.split("|", len(FIELDS) - 1)
        if len(fields) != len(FIELDS):
            raise SetupError(f"the Workflow cannot be watched: {line}")
        phase, cluster, epoch, store, workflow_id = fields
        if cluster and cluster not in self.clusters:
            self.clusters = (*self.clusters, cluster)
            self._progress.say(
                f"the RayCluster is {cluster}" if len(self.clusters) == 1 else f"a new RayCluster: {cluster}"
            )
        if phase and phase != self._phase:
            self._phase, self._phases[phase] = phase, at
            self._progress.say(self._of_phase(phase, at, epoch))
        if store and workflow_id and self._follower is None:
            self._follow(store, workflow_id)

    def _of_phase(self, phase: str, at: float, epoch: str) -> str:
        if phase == "Resumable" and self._killed:
            return f"phase Resumable, {at - self._killed:.1f} s after the kill"
        return f"phase {phase}" + (f", epoch {epoch}" if epoch not in ("", "0") else "")

    def _follow(self, url: str, workflow_id: str) -> None:
        """Read the run's log as anybody with its credentials can: from outside, by a forwarded port."""
        parts = urlsplit(url)
        forwarded = urlunsplit(parts._replace(query=f"endpoint=http://{self._storage.address}"))
        store = open_store(forwarded, access_key=self._storage.access_key, secret_key=self._storage.secret_key)
        self._follower = reading.Follower(store, workflow_id)

    def _look(self) -> None:
        before, view = self.view, self._follower.poll() if self._follower else None
        if view is not None:
            self.view = view
            if view.epoch == 1:
                self._committed = view.counts.succeeded
            elif before is not None and before.epoch < view.epoch:
                late = self._committed - self._killed_after
                more = f"; its old head committed {late} more before it was gone" if late else ""
                self._progress.say(f"epoch {view.epoch}: the new cluster owns the run{more}")
            self._progress.show(view)
        self._progress.keep_alive(SILENT_FOR)

    def _turn_page(self, kill_after: int) -> None:
        """Do what is due: kill the head, or give up."""
        title, since = self._chapter
        if title == "the first step" and self.view is not None:
            self._victim = self._head()  # before it is due, so that no time passes between the commit and the kill
            self._chapter = ("the kill", time.monotonic())
        elif title == "the kill" and self._committed >= kill_after:
            self._kill()
            self._chapter = ("Resumable", time.monotonic())
        elif title == "Resumable" and "Resumable" in self._phases:
            self._chapter = ("the end", time.monotonic())
        elif time.monotonic() - since > _WITHIN[title]:
            raise SetupError(f"no sign of {title} within {_WITHIN[title]:.0f} s; {self._complaint()}")

    def _head(self) -> str:
        """The head's pod."""
        labels = f"ray.io/cluster={self.clusters[-1]},ray.io/node-type=head"
        (head,) = self._kube.objects("pods", trip.NAMESPACE, labels)
        return str(head["metadata"]["name"])

    def _kill(self) -> None:
        name = self._victim
        self._killed, self._killed_after = time.time(), self._committed
        self._kube.kubectl("-n", trip.NAMESPACE, "delete", "pod", name, "--force", "--grace-period=0", "--wait=false")
        self._progress.say(f"killed the head, pod {name}, after {self._killed_after} committed steps")

    def _complaint(self) -> str:
        """What the Workflow says of itself."""
        found = self._kube.get("workflow", trip.NAME, trip.NAMESPACE) or {}
        conditions = (found.get("status") or {}).get("conditions") or []
        told = [f"{one['type']}={one['status']} {one['reason']}: {one.get('message', '')}" for one in conditions]
        return f"the Workflow in {trip.NAMESPACE} says: " + ("; ".join(told) or "nothing; does the operator run?")
