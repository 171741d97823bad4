"""Checks that a run in a store keeps the promises made for every run: nothing is lost, nothing happens twice.

The checker gets keys and bytes and reads the stored format by itself. It imports nothing of the library and unpickles
nothing, so that an error of the engine, the fold or the codec cannot hide here. A broken promise is reported with its
number, key and record:

    I1        at most one outcome for each step
    I2        the value of the run is the expected one
    I3        no step is started, or was seen to execute, in an epoch after that of its outcome
    I4        the inputs of an outcome, and of an execution, were committed before it
    I5        every object that is named exists, complete
    epochs    each epoch is one more than the last
    fence     after the claim of an epoch, no record of an earlier epoch is stored
    end       only a retry follows a terminal record, only a claim follows a release
    gap       the segments have no gap
    format    every object is complete and at the right key; every kind of record is known
    steps     a record is about a step that exists, is written once, and only while the sub-DAG of the step is open
    snapshot  a snapshot contains the same outcomes as the log
    totals    the header of each segment has the totals of the run after it

A record kind that is added to the library needs a method here and a line in `KINDS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tests.support.history import NO_EXPECTATIONS, Expected, History
from tests.support.phases import Phases
from tests.support.stored import BrokenRuleError, Fields, Objects, escaped, parsed
from tests.support.stored_values import StoredValues


def check(objects: Objects, workflow_id: str, n: int = 1, expected: Expected = NO_EXPECTATIONS) -> History:
    """Check the n-th run under an id.

    Args:
        objects: keys and bytes, at least those below `workflows/<id>/`.
        workflow_id: the user's id.
        n: which run under it.
        expected: what the test knows about the run.

    Raises:
        BrokenRuleError: a promise is not kept.
    """
    place = f"workflows/{escaped(workflow_id)}"
    key = f"{place}/registry/{n:010d}"
    created = _named(objects, key, workflow_id, n)
    run = _Run(objects, f"{place}/runs/{n}-{created['run_uuid']}", created["run_uuid"])
    run.begin(key, created)
    for seq, segment in enumerate(run.keys("log"), 1):
        if segment != run.key("log", seq):
            raise BrokenRuleError("gap", segment, f"segment {seq} is missing")
        for record in run.records(segment, seq):
            run.take(segment, seq, record)
        run.check_totals(segment)
    for snapshot in run.keys("snapshot"):
        run.snapshot(snapshot)
    run.compare(expected)
    return run.history


def _named(objects: Objects, key: str, workflow_id: str, n: int) -> Fields:
    if key not in objects:
        raise BrokenRuleError("I5", key, "the registry entry is missing")
    _, records = parsed(key, objects[key])
    if [record["k"] for record in records] != ["Created"]:
        raise BrokenRuleError("format", key, "is not the entry of a run", records)
    (created,) = records
    if (created["workflow_id"], created["run_number"]) != (workflow_id, n):
        raise BrokenRuleError("format", key, f"is the entry of another run than {workflow_id!r}, {n}", created)
    return created


class _Run:
    """The state of one run while its log is checked."""

    def __init__(self, objects: Objects, folder: str, run_uuid: str) -> None:
        self.history = History()
        self._objects = objects
        self._folder = folder
        self._uuid = run_uuid
        self._epoch = 1
        self._released = False
        self._end_seq = 0
        self._specs: dict[str, Fields] = {}
        self._scope: dict[str, str] = {}  # step -> the dynamic step that made it
        self._gives: dict[str, str] = {}  # output of a sub-DAG -> the dynamic step that gets its outcome
        self._output = ""
        self._visible: dict[str, int] = {}  # steps with an outcome that consumers may use, and the segment that has it
        self._values: dict[str, Fields] = {}  # StepCommitted, by step
        self._expanded: dict[str, int] = {}
        self._ephemeral: set[str] = set()  # visible in this epoch only: their values are not stored
        self._stopped: set[str] = set()  # failed or canceled, until a retry
        self._timers: set[str] = set()
        self._waited: set[str] = set()  # steps for which others wait
        self._decisions: dict[str, Fields] = {}  # WaitDecided, by step
        self._phases = Phases()
        self._header: Fields = {}  # of the object that was read last
        self._owner: Fields | None = None
        self._terminal: Fields = {}
        self._stored = StoredValues(objects, folder)
        self._puts: dict[str, str] = {}

    def keys(self, kind: str) -> list[str]:
        """Return the keys of one kind, in order."""
        prefix = f"{self._folder}/{kind}/"
        return sorted(key for key in self._objects if key.startswith(prefix))

    def key(self, kind: str, seq: int) -> str:
        """Return the key of a segment or a snapshot."""
        return f"{self._folder}/{kind}/{seq:020d}"

    def records(self, key: str, seq: int) -> list[Fields]:
        """Return the records of a segment or a snapshot, whose header must fit its key."""
        header, records = parsed(key, self._objects[key])
        self._header = header
        if (header["run"], header["seq"]) != (self._uuid, seq):
            raise BrokenRuleError("format", key, f"belongs to another place than {self._uuid}, {seq}", header)
        if not records:
            raise BrokenRuleError("format", key, "holds no record")
        for record in records:
            if record["k"] not in KINDS:
                raise BrokenRuleError("format", key, "this record kind is unknown", record)
        same = self._puts.setdefault(header["put_id"], key)
        if same != key:
            raise BrokenRuleError("format", key, f"has the put id of another write, that of {same}", header)
        return records

    def begin(self, key: str, created: Fields) -> None:
        """Check the Created record."""
        graph = self._graph(key, created)
        self._insert(key, graph, "")
        self._owner = created.get("owner")
        self._output = graph["output"]
        if created.get("code"):
            self._stored.blob(key, created["code"], created)

    def take(self, key: str, seq: int, record: Fields) -> None:
        """Check one record of a segment."""
        kind = record["k"]
        if kind != "Claimed":
            if record["epoch"] != self._epoch:
                raise BrokenRuleError("fence", key, f"only epoch {self._epoch} may write here", record)
            if self.history.end or self._released:
                raise BrokenRuleError("end", key, f"follows {self.history.end or 'a release'}", record)
        step_id = record.get("step_id")
        if step_id is not None and step_id not in self._specs:
            raise BrokenRuleError("steps", key, "there is no such step", record)
        KINDS[kind](self, key, seq, record)
        if kind != "StepExpanded":  # that one is folded with its DAG
            self._phases.fold(record)

    def check_totals(self, key: str) -> None:
        """Compare the totals in the header of a segment with the records up to its end."""
        status = self.history.end or ("RESUMABLE" if self._released else "RUNNING")
        found: dict[str, Any] = {"epoch": self._epoch, "status": status, "steps": self._phases.totals()}
        if self._owner is not None:
            found["owner"] = {name: value for name, value in self._owner.items() if name != "process"}
        if self.history.end:
            found["ended"] = self._terminal.get("at")
            if self._terminal.get("reason"):
                found["reason"] = self._terminal["reason"]
        stored = self._header.get("totals")
        if stored != found:
            raise BrokenRuleError(
                "totals", key, f"the header has the totals {stored}, but those of the log are {found}", self._header
            )

    def claimed(self, key: str, seq: int, record: Fields) -> None:
        """A new epoch; a retry undoes failures and the terminal record FAILED."""
        if record["epoch"] != self._epoch + 1:
            raise BrokenRuleError("epochs", key, f"the epoch after {self._epoch} is {self._epoch + 1}", record)
        retried = record.get("retry_failed", -1)
        if self.history.end:
            if self.history.end != "FAILED" or retried != self._end_seq:
                raise BrokenRuleError(
                    "end", key, f"the run ended {self.history.end} in segment {self._end_seq}", record
                )
            self.history.end = ""
            self._stopped = {step_id for step_id in self._stopped if self._closed(step_id)}
        elif retried != -1:
            raise BrokenRuleError("end", key, "undoes a terminal record that does not exist", record)
        for name in record.get("functions", {}).values():
            self._stored.references(key, self._stored.pickle(key, name, record), record)
        for step_id in self._ephemeral:
            del self._visible[step_id]
        self._ephemeral.clear()
        self._epoch, self._released, self._owner = record["epoch"], False, record.get("owner")
        self.history.claims[self._epoch] = seq

    def started(self, key: str, seq: int, record: Fields) -> None:
        """An attempt."""
        step_id = record["step_id"]
        self._may_run(key, record, "I3")
        self._inputs(key, record)
        self.history.starts.append((record["epoch"], step_id))

    def timer(self, key: str, seq: int, record: Fields) -> None:
        """A sleep or a timeout begins. It is recorded once, and is never longer than intended."""
        self._may_run(key, record, "I3")
        spec = self._specs[record["step_id"]]
        if spec.get("kind") == "WAIT":
            seconds = spec["wait"].get("timeout")
        else:
            self._inputs(key, record)
            seconds = spec.get("seconds", 0.0) if spec.get("kind") == "SLEEP" else None
        if seconds is None or record["step_id"] in self._timers:
            raise BrokenRuleError("steps", key, "the step has no timer, or its timer is already set", record)
        if record["due"] > record["at"] + seconds:
            raise BrokenRuleError("steps", key, "the timer is due later than the sleep is long", record)
        self._timers.add(record["step_id"])

    def committed(self, key: str, seq: int, record: Fields) -> None:
        """An outcome. That of a step which expanded comes from its sub-DAG, or from a failure there that it caught."""
        step_id = record["step_id"]
        caught = record.get("caught", False)
        if step_id in self._visible or (step_id in self._expanded and not caught):
            raise BrokenRuleError("I1", key, f"a second outcome of step {step_id!r}", record)
        self._open(key, record, "I1")
        if step_id not in self._expanded:  # else it had them when it expanded, and ephemeral ones may be lost since
            self._inputs(key, record)
        self._stored.value(key, record["value"], record)
        self._values[step_id] = record
        self.history.outcomes[step_id] = seq
        self.history.executed.append(step_id)
        while step_id:
            self._visible[step_id] = seq
            step_id = self._gives.get(step_id, "")

    def decided(self, key: str, seq: int, record: Fields) -> None:
        """A wait ended. What is ready has outcomes, and only the timeout ends it with fewer than it waits for."""
        step_id, ready = record["step_id"], list(record.get("ready", ()))
        spec = self._specs[step_id]
        self._may_run(key, record, "I1")
        parents = list(spec.get("parents", ()))
        if spec.get("kind") != "WAIT" or [each for each in parents if each in ready] != ready:
            raise BrokenRuleError("steps", key, "not a wait, or what is ready are none of its parents in order", record)
        if not self._visible.keys() >= set(ready):
            raise BrokenRuleError("I4", key, "a step that is ready has no outcome", record)
        wanted = min(spec["wait"].get("num_returns", 1), len(parents))
        if len(ready) > wanted or (len(ready) < wanted and step_id not in self._timers):
            raise BrokenRuleError("steps", key, "the wait ended with a wrong number of steps", record)
        self._decisions[step_id] = record
        self.history.outcomes[step_id] = seq
        for each in self._receivers(step_id):
            self._visible[each] = seq

    def returned_ephemeral(self, key: str, seq: int, record: Fields) -> None:
        """An outcome whose value is not stored."""
        self._may_run(key, record, "I1")
        self._inputs(key, record)
        if record["step_id"] in self._waited:
            raise BrokenRuleError("I5", key, "a value for which a step waits is not stored", record)
        for step_id in self._receivers(record["step_id"]):
            self._visible[step_id] = seq
            self._ephemeral.add(step_id)

    def ephemeral_lost(self, key: str, seq: int, record: Fields) -> None:
        """An ephemeral value was lost, and the step may run again."""
        if record["step_id"] not in self._ephemeral:
            raise BrokenRuleError("I1", key, "a step without an ephemeral value lost one", record)
        for step_id in self._receivers(record["step_id"]):
            del self._visible[step_id]
            self._ephemeral.remove(step_id)

    def _receivers(self, step_id: str) -> list[str]:
        found = []
        while step_id:
            found.append(step_id)
            step_id = self._gives.get(step_id, "")
        return found

    def expanded(self, key: str, seq: int, record: Fields) -> None:
        """A step returned a DAG. That is its only execution."""
        step_id = record["step_id"]
        self._may_run(key, record, "I1")
        self._inputs(key, record)
        graph = self._graph(key, record)
        self._insert(key, graph, step_id)
        self._phases.fold(record, graph)
        self._gives[graph["output"]] = step_id
        self._expanded[step_id] = seq
        self.history.executed.append(step_id)

    def failed(self, key: str, seq: int, record: Fields) -> None:
        """The last attempt of a step raised."""
        self._may_run(key, record, "I1")
        if record.get("value") is not None:
            self._stored.value(key, record["value"], record)
        self._stopped.add(record["step_id"])

    def canceled(self, key: str, seq: int, record: Fields) -> None:
        """A step will not run; a dynamic step may be canceled with its sub-DAG."""
        if record["step_id"] in self._visible:
            raise BrokenRuleError("I1", key, "a step that has its outcome is canceled", record)
        self._open(key, record, "I1")
        self._stopped.add(record["step_id"])
        self._timers.discard(record["step_id"])

    def request_handled(self, key: str, seq: int, record: Fields) -> None:
        """A request took effect."""

    def status(self, key: str, seq: int, record: Fields) -> None:
        """The run finished, or was released."""
        status = record["status"]
        if status == "RESUMABLE":
            self._released = True
        elif status in ("SUCCESSFUL", "FAILED", "CANCELED"):
            if status == "SUCCESSFUL" and self._output not in self._visible:
                raise BrokenRuleError("I2", key, f"the run succeeded, but {self._output!r} has no outcome", record)
            self.history.end, self._end_seq, self._terminal = status, seq, record
        else:
            raise BrokenRuleError("format", key, "a record cannot have this status", record)

    def not_in_segments(self, key: str, seq: int, record: Fields) -> NoReturn:
        """A record that only occurs in the registry or in snapshots."""
        raise BrokenRuleError("format", key, "a segment cannot contain this record", record)

    def snapshot(self, key: str) -> None:
        """A snapshot has the outcomes of the log up to its seq, no more and no fewer."""
        seq = int(key.rpartition("/")[2])
        header, *records = self.records(key, seq)
        if header["k"] != "SnapshotHeader" or header["seq"] != seq:
            raise BrokenRuleError("snapshot", key, "does not begin with its own header", header)
        if self.key("log", seq) not in self._objects:
            raise BrokenRuleError("snapshot", key, "the last segment that it includes is missing", header)
        found: dict[str, Fields] = {}
        for record in records:
            if record["k"] == "StepCommitted":
                found[record["step_id"]] = record
                logged = self._values.get(record["step_id"], {})
                if _outcome(logged) != _outcome(record):
                    raise BrokenRuleError("snapshot", key, "the log has another outcome", record)
        decisions = {record["step_id"]: record.get("ready") for record in records if record["k"] == "WaitDecided"}
        logged_decisions = {
            step_id: record.get("ready")
            for step_id, record in self._decisions.items()
            if self.history.outcomes[step_id] <= seq
        }
        if decisions != logged_decisions:
            raise BrokenRuleError("snapshot", key, "the log has other decisions of waits", header)
        expansions = {record["step_id"] for record in records if record["k"] == "StepExpanded"}
        known = {step_id for step_id in self._values if self.history.outcomes[step_id] <= seq}
        if set(found) != known or expansions != {step for step, at in self._expanded.items() if at <= seq}:
            raise BrokenRuleError("snapshot", key, f"differs from the log in {sorted(set(found) ^ known)[:10]}", header)

    def compare(self, expected: Expected) -> None:
        """Compare the run with what the test knows about it."""
        if expected.value is not None:
            self._compare_value(expected.value)
        for epoch, step_id in expected.executions:
            self._execution(epoch, step_id)

    def _execution(self, epoch: int, step_id: str) -> None:
        key, seen = f"{self._folder}/log/", f"step {step_id!r} was executed in epoch {epoch}"
        claim, last = self.history.claims.get(epoch), self.history.claims.get(epoch + 1)
        if claim is None:
            raise BrokenRuleError("fence", key, f"{seen}, which was never claimed")
        if step_id not in self._specs:
            raise BrokenRuleError("I4", key, f"{seen}, but it was never committed that it exists")
        done = min(self._visible.get(step_id, claim + 1), self._expanded.get(step_id, claim + 1))
        if done <= claim:
            raise BrokenRuleError(
                "I3", key, f"{seen}, but is committed since segment {done}, before the claim in segment {claim}"
            )
        needed = {parent: self._visible.get(parent) for parent in self._specs[step_id].get("parents", ())}
        if step_id in self._scope:
            needed[self._scope[step_id]] = self._expanded[self._scope[step_id]]
        for each, since in needed.items():
            if since is None or (last is not None and since >= last):
                raise BrokenRuleError(
                    "I4", key, f"{seen}, but {each!r}, which it needs, was committed in segment {since}"
                )

    def _compare_value(self, value: bytes | str) -> None:
        key = self.key("log", self._end_seq)
        if self.history.end != "SUCCESSFUL":
            raise BrokenRuleError(
                "I2", key, f"a value is expected, but the run ended {self.history.end or 'not at all'}"
            )
        source = self._output
        below = {above: step_id for step_id, above in self._gives.items()}
        while source not in self._values:
            source = below[source]
        record = self._values[source]
        found = record.get("text", "") if isinstance(value, str) else self._stored.value(key, record["value"], record)
        if found != value:
            raise BrokenRuleError(
                "I2", key, f"the expected value is {value[:200]!r}, but the run has {found[:200]!r}", record
            )

    def _graph(self, key: str, record: Fields) -> Fields:
        if record.get("graph") is not None:
            graph: Fields = record["graph"]
        elif record.get("graph_blob"):
            graph = json.loads(self._stored.blob(key, record["graph_blob"], record))
        else:
            raise BrokenRuleError("I5", key, "has neither a DAG nor its blob", record)
        return graph

    def _insert(self, key: str, graph: Fields, parent: str) -> None:
        members: set[str] = set()
        for spec in graph["steps"]:
            step_id = spec["step_id"]
            if step_id in self._specs:
                raise BrokenRuleError("I1", key, f"two steps have the id {step_id!r}", spec)
            if spec.get("kind") == "WAIT":
                self._waited.update(spec.get("parents", ()))
            if not (members | self._left_over()).issuperset(spec.get("parents", ())):
                raise BrokenRuleError(
                    "I4", key, f"step {step_id!r} has a parent that is not before it in its DAG", spec
                )
            members.add(step_id)
            self._specs[step_id] = spec
            self.history.steps.append(step_id)
            if parent:
                self._scope[step_id] = parent
            if spec.get("kind") not in ("SLEEP", "WAIT"):
                self._stored.references(key, self._stored.pickle(key, spec["function"], spec), spec)
                self._stored.value(key, spec["args"], spec)
        if graph["output"] not in members:
            raise BrokenRuleError("steps", key, "the output of a DAG is none of its steps", graph["output"])
        if not parent:
            self._phases.insert(graph, "")

    def _left_over(self) -> set[str]:
        """Return the steps that later DAGs may take: waits that were decided left them over."""
        return {each for step_id in self._decisions for each in self._specs[step_id].get("parents", ())}

    def _may_run(self, key: str, record: Fields, number: str) -> None:
        step_id = record["step_id"]
        if step_id in self._visible or step_id in self._expanded:
            raise BrokenRuleError(number, key, f"step {step_id!r} was executed already", record)
        self._open(key, record, number)

    def _open(self, key: str, record: Fields, number: str) -> None:
        if record["step_id"] in self._stopped:
            raise BrokenRuleError(number, key, "the step failed or was canceled, and was not retried", record)
        if self._closed(record["step_id"]):
            raise BrokenRuleError("steps", key, "its dynamic step already has an outcome", record)

    def _closed(self, step_id: str) -> bool:
        """Return whether the dynamic step has its outcome, unless a wait may have left the step over."""
        above = self._scope.get(step_id)
        if above is None or above not in self._visible:
            return False
        is_caught = self._values.get(above, {}).get("caught", False)
        has_wait = any(self._specs[each].get("kind") == "WAIT" for each, of in self._scope.items() if of == above)
        return is_caught or not has_wait

    def _inputs(self, key: str, record: Fields) -> None:
        for parent in self._specs[record["step_id"]].get("parents", ()):
            if parent not in self._visible:
                raise BrokenRuleError("I4", key, f"{parent!r} had no outcome yet", record)


def _outcome(record: Fields) -> Sequence[Any]:
    return record.get("value"), record.get("caught", False)


KINDS: dict[str, Callable[[_Run, str, int, Fields], None]] = {
    "Created": _Run.not_in_segments,
    "Tombstone": _Run.not_in_segments,
    "SnapshotHeader": _Run.not_in_segments,
    "Claimed": _Run.claimed,
    "StepStarted": _Run.started,
    "TimerSet": _Run.timer,
    "StepCommitted": _Run.committed,
    "WaitDecided": _Run.decided,
    "StepReturnedEphemeral": _Run.returned_ephemeral,
    "StepEphemeralLost": _Run.ephemeral_lost,
    "StepExpanded": _Run.expanded,
    "StepFailed": _Run.failed,
    "StepCanceled": _Run.canceled,
    "RequestHandled": _Run.request_handled,
    "StatusChanged": _Run.status,
}
