"""What became of each Workflow of a namespace: every status that a watch brought, in order, with its time.

Tests wait on these stories instead of looking again and again, so that no phase is missed, however short.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.kubectl import Kubectl, documents
from workflow_operator.adapters.workflows import parse_workflow
from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.core.observation import WorkflowObject

RECONNECT_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """A Workflow as one watch event showed it.

    Attributes:
        number: its place in the story.
        at: when the event came, in seconds since 1970.
        workflow: the object; None where it was deleted.
    """

    number: int
    at: float
    workflow: WorkflowObject | None

    @property
    def state(self) -> WorkflowState:
        """Its status; an empty one where the object is gone."""
        return self.workflow.state if self.workflow else WorkflowState()


class Stories:
    """Watches the Workflows of one namespace, inside `watching()`.

    Args:
        kubectl: the cluster.
        namespace: which.
    """

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._seen: dict[str, list[Seen]] = defaultdict(list)
        self._news = threading.Condition()
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    @contextmanager
    def watching(self) -> Iterator[Stories]:
        """Watch for the length of the block."""
        thread = threading.Thread(target=self._follow, name=f"watch of {self._namespace}")
        thread.start()
        try:
            yield self
        finally:
            with self._starting:
                self._ended.set()
                if self._process is not None:
                    self._process.terminate()
            thread.join()

    def _follow(self) -> None:
        """Note what a watch brings; when the server ends it, begin another."""
        while True:
            with self._starting:
                if self._ended.is_set():
                    return
                watch = self._process = self._kubectl.start(
                    "-n", self._namespace, "get", "workflows", "-w", "--output-watch-events", "-o", "json"
                )
            with watch:
                for event in documents(watch):
                    self._note(event["type"], parse_workflow(event["object"]))
            self._ended.wait(RECONNECT_SECONDS)

    def of(self, name: str) -> list[Seen]:
        """All that was seen of a Workflow."""
        with self._news:
            return list(self._seen[name])

    def until(
        self, name: str, wanted: Callable[[Seen], bool], timeout: float, after: Seen | None = None
    ) -> Seen | None:
        """The first event of a Workflow that is as wanted.

        Args:
            name: the Workflow's.
            wanted: tells.
            timeout: seconds.
            after: look only at what came later.

        Returns:
            None where there was none in time.
        """
        start = after.number + 1 if after else 0
        deadline = time.monotonic() + timeout
        with self._news:
            looked = start
            while True:
                known = self._seen[name]
                while looked < len(known):
                    if wanted(known[looked]):
                        return known[looked]
                    looked += 1
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)

    def _note(self, kind: str, workflow: WorkflowObject) -> None:
        with self._news:
            story = self._seen[workflow.name]
            story.append(Seen(len(story), time.time(), None if kind == "DELETED" else workflow))
            self._news.notify_all()


def phases(story: list[Seen]) -> list[Phase]:
    """The phases of a story, each named once for each time it was entered."""
    entered: list[Phase] = []
    for seen in story:
        phase = seen.state.phase
        if phase is not None and (not entered or entered[-1] is not phase):
            entered.append(phase)
    return entered
