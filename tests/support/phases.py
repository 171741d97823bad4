"""Counts the steps of a run by phase, from the JSON records of its log: for `checker`, which compares totals with it.

Imports nothing of the library, so that an error of the library's fold cannot hide here. It expects a legal log: the
checker checks each record before it is folded here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]

NEEDS_PARENTS = ("WAITING", "READY", "RUNNING")


class Phases:
    """The phase of each step.

    Attributes:
        counts: the number of steps in each phase.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._phase: dict[str, str] = {}
        self._parents: dict[str, list[str]] = {}
        self._children: dict[str, list[str]] = {}
        self._above: dict[str, str] = {}  # step -> the dynamic step that returned it
        self._gives: dict[str, str] = {}  # output of a sub-DAG -> the dynamic step that gets its outcome
        self._expanded: set[str] = set()
        self._waits: dict[str, Fields] = {}  # step that waits for some of its parents -> its options
        self._caught: set[str] = set()  # dynamic steps that caught a failure themselves
        self._source: dict[str, str] = {}  # step with an ephemeral outcome -> the step that returned the value

    def totals(self) -> dict[str, int]:
        """Return the number of steps in each phase that has any."""
        return {phase: count for phase, count in self.counts.items() if count}

    @property
    def phases(self) -> dict[str, str]:
        """The phase of each step, by its id."""
        return dict(self._phase)

    def insert(self, graph: Fields, above: str) -> None:
        """Add the steps of a DAG.

        Args:
            graph: as it is stored.
            above: the dynamic step that returned it, or empty.
        """
        for spec in graph["steps"]:
            step_id, parents = spec["step_id"], list(spec.get("parents", ()))
            self._parents[step_id] = parents
            for parent in parents:
                self._children.setdefault(parent, []).append(step_id)
            if above:
                self._above[step_id] = above
            if spec.get("kind") == "WAIT":
                self._waits[step_id] = {"num_returns": 1, "timeout": None, **spec["wait"]}
            self._wait_or_be_ready(step_id)
        if above:
            self._gives[graph["output"]] = above

    def fold(self, record: Fields, graph: Fields | None = None) -> None:
        """Fold in one record; `graph` is the DAG of a StepExpanded."""
        kind, step_id = record["k"], record.get("step_id", "")
        if kind in MOVES:
            self._move(step_id, MOVES[kind])
        elif kind == "StepCommitted":
            if record.get("caught", False) and step_id in self._expanded:
                self._caught.add(step_id)
            self._finish(step_id, ephemeral=False)
        elif kind == "WaitDecided":
            self._finish(step_id, ephemeral=False)
        elif kind == "StepReturnedEphemeral":
            self._finish(step_id, ephemeral=True)
        elif kind == "StepEphemeralLost":
            self._lose(step_id)
        elif kind == "StepExpanded":
            assert graph is not None, "the caller reads the DAG of an expansion"
            self._move(step_id, "EXPANDED")
            self._expanded.add(step_id)
            self.insert(graph, step_id)
        elif kind == "Claimed":
            self._claim(retries=record.get("retry_failed", -1) != -1)

    def _move(self, step_id: str, phase: str) -> None:
        before = self._phase.get(step_id)
        if before is not None:
            self.counts[before] -= 1
        self._phase[step_id] = phase
        self.counts[phase] += 1

    def _has_inputs(self, step_id: str) -> bool:
        parents, wait = self._parents[step_id], self._waits.get(step_id)
        needed = len(parents) if wait is None else min(wait["num_returns"], len(parents))
        return sum(self._phase[parent] == "COMMITTED" for parent in parents) >= needed

    def _wait_or_be_ready(self, step_id: str) -> None:
        has_timer = step_id in self._waits and self._waits[step_id]["timeout"] is not None
        self._move(step_id, "READY" if has_timer or self._has_inputs(step_id) else "WAITING")

    def _finish(self, step_id: str, ephemeral: bool) -> None:
        for each in self._receivers(step_id):
            self._move(each, "COMMITTED")
            if ephemeral:
                self._source[each] = step_id
            for child in self._children.get(each, ()):
                if self._phase[child] == "WAITING" or (self._phase[child] == "SLEEPING" and self._has_inputs(child)):
                    self._wait_or_be_ready(child)

    def _receivers(self, step_id: str) -> list[str]:
        """Return the step, and the dynamic steps that get its outcome."""
        found = [step_id]
        while found[-1] in self._gives:
            found.append(self._gives[found[-1]])
        return found

    def _lose(self, step_id: str) -> None:
        for each in self._receivers(step_id):
            del self._source[each]
            self._move(each, "EXPANDED")
            for child in self._children.get(each, ()):
                if self._phase[child] in ("READY", "RUNNING"):
                    self._move(child, "WAITING")
        self._wait_or_be_ready(step_id)

    def _claim(self, retries: bool) -> None:
        if retries:
            self._undo_failures()
        for step_id, phase in self._phase.items():
            if phase == "RUNNING":
                self._move(step_id, "READY")
        takers = [step_id for step_id, phase in self._phase.items() if phase in NEEDS_PARENTS]
        lost: set[str] = set()
        while takers:
            for parent in self._parents[takers.pop()]:
                source = self._source.get(parent)
                if source is not None and source not in lost:
                    lost.add(source)
                    takers.append(source)
        for step_id in lost:
            self._lose(step_id)

    def _undo_failures(self) -> None:
        """Failed and canceled steps may run again, except below a dynamic step that caught a failure."""
        closed: set[str] = set()
        for step_id, phase in self._phase.items():
            above = self._above.get(step_id)
            if above is not None and (above in closed or above in self._caught):
                closed.add(step_id)
            elif phase in ("FAILED", "CANCELED"):
                if step_id in self._expanded:
                    self._move(step_id, "EXPANDED")
                else:
                    self._wait_or_be_ready(step_id)


MOVES = {
    "StepStarted": "RUNNING",
    "TimerSet": "SLEEPING",
    "StepFailed": "FAILED",
    "StepCanceled": "CANCELED",
}
"""The phase of a step after a record of this kind."""
