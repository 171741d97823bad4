"""Observes the store and the workers during a simulation, for rules that the final content of the store cannot show.

It parses the stored format by itself, and shares nothing with the engine except the keys that the engine writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.simulation.loop import Process
from tests.support.stored import parsed
from workflow.store.memory import MemoryStore


@dataclass
class ObservedRun:
    """The state of one run according to its stored segments.

    Attributes:
        epoch: the last claimed epoch.
        committed_in: step -> the epoch that committed its execution, by a value or by an expansion.
        outcomes: steps that have an outcome.
        passes_outcome_to: output step of a sub-DAG -> the dynamic step that receives its outcome.
        executions: epoch and step of each attempt that a worker received. Attempts with ephemeral inputs are left out.
        terminal: the record of the terminal state, unless a later claim undid it.
        handled_requests: requests that are in the log.
        times_finished: how often the run reached a terminal state.
        request_made_at: request -> `times_finished` when it was made, or -1 if the run was finished then.
        timer_due: sleep step -> the earliest time at which it may end.
        decisions: what was ready, for each wait that was decided.
        object: uid of the Workflow object that owns the run; empty for an owner without an object, None if unknown.
        released: the last owner released the run.
    """

    epoch: int = 1
    committed_in: dict[str, int] = field(default_factory=dict)
    outcomes: set[str] = field(default_factory=set)
    passes_outcome_to: dict[str, str] = field(default_factory=dict)
    executions: list[tuple[int, str]] = field(default_factory=list)
    terminal: dict[str, Any] | None = None
    handled_requests: set[str] = field(default_factory=set)
    times_finished: int = 0
    request_made_at: dict[str, int] = field(default_factory=dict)
    timer_due: dict[str, float] = field(default_factory=dict)
    decisions: dict[str, list[str]] = field(default_factory=dict)
    object: str | None = None
    released: bool = False


class Observer:
    """Observes all runs of one simulation.

    Attributes:
        violations: observed events that must never happen.
        counts: number of stored records by kind, and of terminal states.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ObservedRun] = {}
        self.violations: list[str] = []
        self.counts: dict[str, int] = {}

    def segment_stored(self, objects: MemoryStore, key: str, data: bytes) -> str:
        """Observe a new segment, and return it as a line for the trace."""
        folder, _, _ = key.partition("/log/")
        header, *records = (json.loads(line) for line in data.split(b"\n")[1:-1])
        run = self.runs.setdefault(header["run"], ObservedRun())
        if run.object is None:
            run.object = _object_of_creation(objects, folder)
        self._check_requester(run, header["run"], records)
        texts = []
        for record in records:
            kind = record["k"]
            self.counts[kind] = self.counts.get(kind, 0) + 1
            texts.append(" ".join(filter(None, (kind, record.get("step_id", record.get("status", ""))))))
            self._check_blobs(run, objects, folder, record)
            self._apply(run, objects, folder, record)
        return f"{header['run']} {header['seq']}: {', '.join(texts)}"

    def tombstone_stored(self, key: str, data: bytes) -> None:
        """Observe a registry entry. A run is deleted only after its log shows that it can never be claimed again."""
        _, entry = parsed(key, data)
        if entry[0]["k"] == "Tombstone" and entry[0].get("reason") == "Deleted" and entry[0]["run_number"] == 2:
            run = self.runs.get(f"{entry[0]['workflow_id']}-1")
            status = run.terminal["status"] if run is not None and run.terminal is not None else "RUNNING"
            if run is not None and status not in ("SUCCESSFUL", "CANCELED"):
                self.violations.append(f"{key} deletes a run that is {status}, so it can still be claimed")

    def _check_requester(self, run: ObservedRun, run_uuid: str, records: list[dict[str, Any]]) -> None:
        """Check that a request of a Workflow object never claims the run of another one, unless that released it."""
        owner = records[0]["owner"] if records[0]["k"] == "Claimed" else {}
        requester = owner.get("uid", "") if owner.get("manager", "").startswith("outside-") else ""
        if requester and run.object and run.object != requester and not run.released:
            self.violations.append(f"request of {requester} claimed {run_uuid}, which {run.object} owns")

    def key_created(self, key: str) -> None:
        """Observe a new key outside the logs. Only requests are remembered."""
        run, request = self._request_of(key)
        if run is not None:
            run.request_made_at.setdefault(request, run.times_finished if run.terminal is None else -1)

    def key_deleted(self, key: str) -> None:
        """Observe a removed key. A request may be removed only if it was handled or if its run has finished since."""
        run, request = self._request_of(key)
        if (
            run is not None
            and request not in run.handled_requests
            and run.request_made_at.get(request) == run.times_finished
            and run.terminal is None
        ):
            self.violations.append(f"{key} was removed before it was handled")

    def _request_of(self, key: str) -> tuple[ObservedRun | None, str]:
        folder, _, request = key.partition("/inbox/")
        return (self.runs.get(folder.partition("/runs/1-")[2]) if request else None), request

    def attempt_started(
        self, run_uuid: str, epoch: int, step_id: str, parents: tuple[str, ...], *, ephemeral_inputs: bool
    ) -> None:
        """Observe an attempt that a worker received. No record describes ephemeral inputs yet."""
        run = self.runs.setdefault(run_uuid, ObservedRun())
        committed_in = run.committed_in.get(step_id)
        if committed_in is not None and committed_in <= epoch:
            self.violations.append(
                f"I3: {step_id!r} of {run_uuid} started in epoch {epoch}, but epoch {committed_in} committed it"
            )
        if ephemeral_inputs:
            return
        run.executions.append((epoch, step_id))
        for parent in parents:
            if parent not in run.outcomes:
                self.violations.append(
                    f"I4: {step_id!r} of {run_uuid} started before the outcome of {parent!r} was stored"
                )

    def _check_blobs(self, run: ObservedRun, objects: MemoryStore, folder: str, record: dict[str, Any]) -> None:
        for name in filter(None, (record.get("graph_blob"), (record.get("value") or {}).get("blob"))):
            if objects.head(f"{folder.partition('/runs/')[0]}/registry/{2:010d}") is not None:
                continue  # the run was deleted, and a late writer may still write segments that are never read
            if objects.head(f"{folder}/blobs/{name}") is None:
                self.violations.append(
                    f"I5: {record['k']} {record.get('step_id', '')!r} was stored before its blob {name}"
                )

    def _apply(self, run: ObservedRun, objects: MemoryStore, folder: str, record: dict[str, Any]) -> None:
        kind, step_id = record["k"], record.get("step_id", "")
        if kind == "Claimed":
            run.epoch, run.terminal = record["epoch"], None
            run.object, run.released = record["owner"].get("uid", ""), False
        elif kind == "StepExpanded":
            run.committed_in[step_id] = record["epoch"]
            graph = record.get("graph")
            if graph is None:
                data = objects.get(f"{folder}/blobs/{record['graph_blob']}")
                graph = json.loads(data) if data is not None else {"output": ""}
            run.passes_outcome_to[graph["output"]] = step_id
        elif kind == "RequestHandled":
            run.handled_requests.add(record["request_id"])
        elif kind == "TimerSet":
            run.timer_due.setdefault(step_id, record["due"])
        elif kind == "StepCommitted":
            seconds_early = run.timer_due.get(step_id, 0.0) - record.get("ended", 0.0)
            if seconds_early > 0.001:
                self.violations.append(f"sleep: {step_id!r} ended {seconds_early} s early")
            run.committed_in[step_id] = record["epoch"]
            while step_id:
                run.outcomes.add(step_id)
                step_id = run.passes_outcome_to.get(step_id, "")
        elif kind == "WaitDecided":
            if step_id in run.decisions:
                self.violations.append(f"I1: {step_id!r} decided twice")
            run.decisions[step_id] = record.get("ready", [])
            run.committed_in[step_id] = record["epoch"]
            run.outcomes.add(step_id)
        elif kind == "StatusChanged" and record["status"] == "RESUMABLE":
            run.released = True
        elif kind == "StatusChanged":
            run.terminal = record
            run.times_finished += 1
            event = f"finished {record['status']}" + (f" ({record['reason']})" if record.get("reason") else "")
            self.counts[event] = self.counts.get(event, 0) + 1


def _object_of_creation(objects: MemoryStore, folder: str) -> str:
    """Return the uid of the Workflow object that created a run."""
    key = f"{folder.partition('/runs/')[0]}/registry/{1:010d}"
    entry = parsed(key, objects.get(key) or b"")[1][0]
    return str(entry.get("owner", {}).get("uid", ""))


def name_of(process: Process | None) -> str:
    """Return the name of a process for the trace."""
    return process.name if process is not None else "environment"
