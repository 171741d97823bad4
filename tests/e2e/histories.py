"""Histories of the Workflows in a namespace: every watch event of each Workflow, in order, with its time.

Tests wait for events in these histories instead of polling, so that they see every phase, even a short one.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dev.kube import Object
from tests.e2e.kubectl import Kubectl
from tests.e2e.watches import watching
from workflow_operator.adapters.workflows import parse_workflow
from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.core.observation import WorkflowObject


@dataclass(frozen=True)
class WatchEvent:
    """A watch event of a Workflow.

    Attributes:
        number: its index in the history.
        at: the time of the event, in seconds since 1970.
        workflow: the object, or None if it was deleted.
    """

    number: int
    at: float
    workflow: WorkflowObject | None

    @property
    def state(self) -> WorkflowState:
        """Return the status; it is empty if the object was deleted."""
        return self.workflow.state if self.workflow else WorkflowState()


class Histories:
    """Watches the Workflows of one namespace while a block of `watching()` runs.

    Args:
        kubectl: the cluster.
        namespace: the name of the namespace.
    """

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._events: dict[str, list[WatchEvent]] = defaultdict(list)
        self._changed = threading.Condition()

    @contextmanager
    def watching(self) -> Iterator[Histories]:
        """Watch while the block runs."""
        with watching(self._kubectl, self._namespace, "workflows", self._record):
            yield self

    def of(self, name: str) -> list[WatchEvent]:
        """Return all events of a Workflow."""
        with self._changed:
            return list(self._events[name])

    def until(
        self, name: str, wanted: Callable[[WatchEvent], bool], timeout: float, after: WatchEvent | None = None
    ) -> WatchEvent | None:
        """Wait for the first event of a Workflow that fulfills a condition.

        Args:
            name: the name of the Workflow.
            wanted: the condition.
            timeout: the longest time to wait, in seconds.
            after: if given, only later events are considered.

        Returns:
            The event, or None if there was none in time.
        """
        start = after.number + 1 if after else 0
        deadline = time.monotonic() + timeout
        with self._changed:
            position = start
            while True:
                known = self._events[name]
                while position < len(known):
                    if wanted(known[position]):
                        return known[position]
                    position += 1
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                self._changed.wait(remaining)

    def _record(self, kind: str, found: Object) -> None:
        workflow = parse_workflow(found)
        with self._changed:
            history = self._events[workflow.name]
            history.append(WatchEvent(len(history), time.time(), None if kind == "DELETED" else workflow))
            self._changed.notify_all()


def phases(history: list[WatchEvent]) -> list[Phase]:
    """Return the phases of a history, one for each time that a phase was entered."""
    entered: list[Phase] = []
    for event in history:
        phase = event.state.phase
        if phase is not None and (not entered or entered[-1] is not phase):
            entered.append(phase)
    return entered
