"""Watches the store and the workers while a seed goes on: what a checker of the bytes that are left cannot see.

Reads the written format by itself; shares nothing with the engine but the keys it wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.simulation.loop import Process
from workflow.store.memory import MemoryStore


@dataclass
class Seen:
    """One run, as far as its segments are stored.

    Attributes:
        epoch: claimed last.
        done: the epoch that committed each step's execution, by a value or by an expansion.
        outcomes: steps that have one.
        gives: the output of a sub-DAG -> the dynamic step that gets its outcome.
        begun: (epoch, step id) of what was handed to a worker, but of those that took values which are not stored.
        end: the record that ended it, while it stands.
        taken: requests that are in its log.
        ends: how often it ended.
        asked: request -> how often it had ended when that was made; -1 where it stood ended then.
        due: when a sleep may be over at the earliest.
    """

    epoch: int = 1
    done: dict[str, int] = field(default_factory=dict)
    outcomes: set[str] = field(default_factory=set)
    gives: dict[str, str] = field(default_factory=dict)
    begun: list[tuple[int, str]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    handled_requests: set[str] = field(default_factory=set)
    ends: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)


class Watch:
    """All runs of one seed.

    Attributes:
        broken: what was seen that may never be.
        counts: how often what was written.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Seen] = {}
        self.broken: list[str] = []
        self.counts: dict[str, int] = {}

    def stored(self, objects: MemoryStore, key: str, data: bytes) -> str:
        """A segment was stored; returns it as a line for the trace."""
        folder, _, _ = key.partition("/log/")
        header, *records = (json.loads(line) for line in data.split(b"\n")[1:-1])
        run = self.runs.setdefault(header["run"], Seen())
        told = []
        for record in records:
            kind = record["k"]
            self.counts[kind] = self.counts.get(kind, 0) + 1
            told.append(" ".join(filter(None, (kind, record.get("step_id", record.get("status", ""))))))
            self._take(run, objects, folder, record)
        return f"{header['run']} {header['seq']}: {', '.join(told)}"

    def asked(self, key: str) -> None:
        """A key was made; remembers requests."""
        run, request = self._asked_of(key)
        if run is not None:
            run.asked.setdefault(request, run.ends if run.end is None else -1)

    def deleted(self, key: str) -> None:
        """A key was removed: of requests only those that took effect, or behind whose making their run stood ended."""
        run, request = self._asked_of(key)
        if (
            run is not None
            and request not in run.handled_requests
            and run.asked.get(request) == run.ends
            and run.end is None
        ):
            self.broken.append(f"{key} was removed unanswered")

    def _asked_of(self, key: str) -> tuple[Seen | None, str]:
        folder, _, request = key.partition("/inbox/")
        return (self.runs.get(folder.partition("/runs/1-")[2]) if request else None), request

    def begun(self, run_uuid: str, epoch: int, step_id: str, parents: tuple[str, ...], *, lent: bool) -> None:
        """A try was handed to a worker; values may have been lent to it, which no record tells of by then."""
        run = self.runs.setdefault(run_uuid, Seen())
        done = run.done.get(step_id)
        if done is not None and done <= epoch:
            self.broken.append(f"I3: {step_id!r} of {run_uuid} began in epoch {epoch}, but epoch {done} committed it")
        if lent:
            return
        run.begun.append((epoch, step_id))
        for parent in parents:
            if parent not in run.outcomes:
                self.broken.append(f"I4: {step_id!r} of {run_uuid} began before the outcome of {parent!r} was stored")

    def _take(self, run: Seen, objects: MemoryStore, folder: str, record: dict[str, Any]) -> None:
        kind, step_id = record["k"], record.get("step_id", "")
        for name in filter(None, (record.get("graph_blob"), (record.get("value") or {}).get("blob"))):
            if objects.head(f"{folder.partition('/runs/')[0]}/registry/{2:010d}") is not None:
                continue  # it was deleted: a late writer may still write what nobody reads
            if objects.head(f"{folder}/blobs/{name}") is None:
                self.broken.append(f"I5: {kind} {step_id!r} was stored before the blob {name} that it names")
        if kind == "Claimed":
            run.epoch, run.end = record["epoch"], None
        elif kind == "StepExpanded":
            run.done[step_id] = record["epoch"]
            graph = record.get("graph")
            if graph is None:
                data = objects.get(f"{folder}/blobs/{record['graph_blob']}")
                graph = json.loads(data) if data is not None else {"output": ""}
            run.gives[graph["output"]] = step_id
        elif kind == "RequestHandled":
            run.handled_requests.add(record["request_id"])
        elif kind == "TimerSet":
            run.due.setdefault(step_id, record["due"])
        elif kind == "StepCommitted":
            early = run.due.get(step_id, 0.0) - record.get("ended", 0.0)
            if early > 0.001:
                self.broken.append(f"sleep: {step_id!r} woke {early} s early")
            run.done[step_id] = record["epoch"]
            while step_id:
                run.outcomes.add(step_id)
                step_id = run.gives.get(step_id, "")
        elif kind == "StatusChanged" and record["status"] != "RESUMABLE":
            run.end = record
            run.ends += 1
            word = f"ended {record['status']}" + (f" ({record['reason']})" if record.get("reason") else "")
            self.counts[word] = self.counts.get(word, 0) + 1


def owner_of(process: Process | None) -> str:
    """For the trace."""
    return process.name if process is not None else "world"
