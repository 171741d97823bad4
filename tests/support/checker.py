"""Checks a run as it lies in a store against what is promised of every run: nothing lost, nothing twice.

It is given keys and bytes and reads the written format by itself: it imports nothing of the library and unpickles
nothing, so that an error of the engine, of the fold or of the codec cannot hide itself here. What it finds it names by
number, key and record:

    I1      at most one outcome for each step
    I2      the run's value is the oracle's
    I3      no step is started, nor seen to execute, in an epoch that could see its outcome
    I4      the inputs of an outcome, and of an execution, were committed before it
    I5      whatever is named is there, whole
    epochs  they rise by one
    fence   nothing of an epoch stands behind the claim of the next
    end     nothing but a retry stands behind an end, nothing but a claim behind a goodbye
    gap     segments follow each other
    format  every object is whole and says what it is; no kind of record is unknown
    steps   a record tells of a step that exists, once, and only where its sub-DAG is open
    snapshot  a snapshot tells the outcomes that the log tells
    totals  the header of each segment has the totals of the run after it

A kind of record that is added to the library gets a method here and a line in `KINDS`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tests.support.phases import Phases
from tests.support.stored import BrokenPromiseError, Fields, Objects, escaped, parsed

_REFERENCE = re.compile(rb"\x8c@([0-9a-f]{64})\x94?\x86\x94?R")
"""In a pickle, a call with two arguments, the last of them a sha256: how a reference to a stored object is written."""


@dataclass(frozen=True)
class Told:
    """What a test knows of a run by other means.

    Attributes:
        value: the oracle's: the bytes of the run's value as they are stored, or their rendering as text; None where
            the run need not have succeeded.
        begun: (epoch, step id) of each execution that was seen; it is held against what was committed before that
            epoch. Within one, the StepStarted records are.
    """

    value: bytes | str | None = None
    begun: Iterable[tuple[int, str]] = ()


NOTHING_TOLD = Told()


@dataclass
class History:
    """A run as its log tells it.

    Attributes:
        claims: the segment of each epoch's claim, by epoch; that of the first is 0.
        steps: all that came into being, in order.
        outcomes: the segment of each step's own outcome.
        executed: steps whose execution is committed, by a value or by an expansion, in that order.
        starts: (epoch, step id) of each try that is noted.
        end: the status it ended with, or empty.
    """

    claims: dict[int, int] = field(default_factory=lambda: {1: 0})
    steps: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    starts: list[tuple[int, str]] = field(default_factory=list)
    end: str = ""


def check(objects: Objects, workflow_id: str, n: int = 1, told: Told = NOTHING_TOLD) -> History:
    """Check the n-th run under an id.

    Args:
        objects: keys and bytes, at least those below `workflows/<id>/`.
        workflow_id: the user's id.
        n: which run under it.
        told: what is known besides.

    Raises:
        BrokenPromiseError: a promise is not kept.
    """
    place = f"workflows/{escaped(workflow_id)}"
    key = f"{place}/registry/{n:010d}"
    created = _named(objects, key, workflow_id, n)
    run = _Run(objects, f"{place}/runs/{n}-{created['run_uuid']}", created["run_uuid"])
    run.begin(key, created)
    for seq, segment in enumerate(run.keys("log"), 1):
        if segment != run.key("log", seq):
            raise BrokenPromiseError("gap", segment, f"segment {seq} is missing")
        for record in run.records(segment, seq):
            run.take(segment, seq, record)
        run.check_totals(segment)
    for snapshot in run.keys("snapshot"):
        run.snapshot(snapshot)
    run.compare(told)
    return run.history


def _named(objects: Objects, key: str, workflow_id: str, n: int) -> Fields:
    if key not in objects:
        raise BrokenPromiseError("I5", key, "no run has this name")
    _, records = parsed(key, objects[key])
    if [record["k"] for record in records] != ["Created"]:
        raise BrokenPromiseError("format", key, "names no run", records)
    (created,) = records
    if (created["workflow_id"], created["run_number"]) != (workflow_id, n):
        raise BrokenPromiseError("format", key, f"names another run than {workflow_id!r}, {n}", created)
    return created


class _Run:
    """One run while it is read.

    Attributes:
        history: what it turned out to be.
    """

    def __init__(self, objects: Objects, folder: str, run_uuid: str) -> None:
        self.history = History()
        self._objects = objects
        self._folder = folder
        self._uuid = run_uuid
        self._epoch = 1
        self._goodbye = False
        self._end_seq = 0
        self._specs: dict[str, Fields] = {}
        self._scope: dict[str, str] = {}  # step -> the dynamic step that made it
        self._gives: dict[str, str] = {}  # output of a sub-DAG -> the dynamic step that gets its outcome
        self._output = ""
        self._visible: dict[str, int] = {}  # steps whose outcome consumers may see, and since which segment
        self._values: dict[str, Fields] = {}  # StepCommitted, by step
        self._expanded: dict[str, int] = {}
        self._passed: set[str] = set()  # visible in this epoch only: their values are not stored
        self._over: set[str] = set()  # failed or canceled, until a retry
        self._timers: set[str] = set()
        self._phases = Phases()
        self._header: Fields = {}  # of the object that was read last
        self._owner: Fields | None = None
        self._terminal: Fields = {}
        self._whole: set[str] = set()
        self._puts: dict[str, str] = {}

    def keys(self, kind: str) -> list[str]:
        """The run's keys of a kind, in order."""
        prefix = f"{self._folder}/{kind}/"
        return sorted(key for key in self._objects if key.startswith(prefix))

    def key(self, kind: str, seq: int) -> str:
        """Of a segment or a snapshot."""
        return f"{self._folder}/{kind}/{seq:020d}"

    def records(self, key: str, seq: int) -> list[Fields]:
        """Those of a segment or a snapshot, which must say where it belongs."""
        header, records = parsed(key, self._objects[key])
        self._header = header
        if (header["run"], header["seq"]) != (self._uuid, seq):
            raise BrokenPromiseError("format", key, f"belongs to another place than {self._uuid}, {seq}", header)
        if not records:
            raise BrokenPromiseError("format", key, "holds no record")
        for record in records:
            if record["k"] not in KINDS:
                raise BrokenPromiseError("format", key, "nobody knows this kind of record", record)
        twin = self._puts.setdefault(header["put_id"], key)
        if twin != key:
            raise BrokenPromiseError("format", key, f"bears the mark of another write, that of {twin}", header)
        return records

    def begin(self, key: str, created: Fields) -> None:
        """What the run is made of."""
        graph = self._graph(key, created)
        self._insert(key, graph, "")
        self._owner = created.get("owner")
        self._output = graph["output"]
        if created.get("code"):
            self._blob(key, created["code"], created)

    def take(self, key: str, seq: int, record: Fields) -> None:
        """One record of a segment."""
        kind = record["k"]
        if kind != "Claimed":
            if record["epoch"] != self._epoch:
                raise BrokenPromiseError("fence", key, f"epoch {self._epoch} is the one that may write here", record)
            if self.history.end or self._goodbye:
                raise BrokenPromiseError("end", key, f"behind {self.history.end or 'a released'}", record)
        step_id = record.get("step_id")
        if step_id is not None and step_id not in self._specs:
            raise BrokenPromiseError("steps", key, "no such step came into being", record)
        KINDS[kind](self, key, seq, record)
        if kind != "StepExpanded":  # that one is folded with its DAG
            self._phases.fold(record)

    def check_totals(self, key: str) -> None:
        """Compare the totals in the header of a segment with the records up to its end."""
        status = self.history.end or ("RESUMABLE" if self._goodbye else "RUNNING")
        found: dict[str, Any] = {
            "epoch": self._epoch,
            "owner": self._owner,
            "status": status,
            "steps": self._phases.totals(),
        }
        if self.history.end:
            found["ended"] = self._terminal.get("at")
            if self._terminal.get("reason"):
                found["reason"] = self._terminal["reason"]
        stored = self._header.get("totals")
        if stored != {name: value for name, value in found.items() if value is not None}:
            raise BrokenPromiseError(
                "totals", key, f"the header has the totals {stored}, but the log gives {found}", self._header
            )

    def claimed(self, key: str, seq: int, record: Fields) -> None:
        """A new epoch; a retry voids failures, and an end FAILED."""
        if record["epoch"] != self._epoch + 1:
            raise BrokenPromiseError("epochs", key, f"the epoch behind {self._epoch} is {self._epoch + 1}", record)
        voided = record.get("retry_failed", -1)
        if self.history.end:
            if self.history.end != "FAILED" or voided != self._end_seq:
                raise BrokenPromiseError(
                    "end", key, f"the run ended {self.history.end} in segment {self._end_seq}", record
                )
            self.history.end = ""
            self._over = {step_id for step_id in self._over if self._closed(step_id)}
        elif voided != -1:
            raise BrokenPromiseError("end", key, "voids an end that is not there", record)
        for name in record.get("functions", {}).values():
            self._blob(key, name, record)
        for step_id in self._passed:
            del self._visible[step_id]
        self._passed.clear()
        self._epoch, self._goodbye, self._owner = record["epoch"], False, record.get("owner")
        self.history.claims[self._epoch] = seq

    def started(self, key: str, seq: int, record: Fields) -> None:
        """A try."""
        step_id = record["step_id"]
        self._may_run(key, record, "I3")
        self._inputs(key, record)
        self.history.starts.append((record["epoch"], step_id))

    def timer(self, key: str, seq: int, record: Fields) -> None:
        """A sleep begins; once, and it is never longer than it was meant to be."""
        self._may_run(key, record, "I3")
        self._inputs(key, record)
        spec = self._specs[record["step_id"]]
        if spec.get("kind") != "SLEEP" or record["step_id"] in self._timers:
            raise BrokenPromiseError("steps", key, "the step does not sleep, or its timer is set already", record)
        if record["due"] > record["at"] + spec.get("seconds", 0.0):
            raise BrokenPromiseError("steps", key, "the timer is due later than the sleep is long", record)
        self._timers.add(record["step_id"])

    def committed(self, key: str, seq: int, record: Fields) -> None:
        """An outcome. That of a step which expanded comes from its sub-DAG, or from a failure there that it caught."""
        step_id = record["step_id"]
        caught = record.get("caught", False)
        if step_id in self._visible or (step_id in self._expanded and not caught):
            raise BrokenPromiseError("I1", key, f"a second outcome of step {step_id!r}", record)
        self._open(key, record, "I1")
        if step_id not in self._expanded:  # else it took them when it expanded; lent ones may be gone since
            self._inputs(key, record)
        self._value(key, record["value"], record)
        self._values[step_id] = record
        self.history.outcomes[step_id] = seq
        self.history.executed.append(step_id)
        while step_id:
            self._visible[step_id] = seq
            step_id = self._gives.get(step_id, "")

    def passed(self, key: str, seq: int, record: Fields) -> None:
        """An outcome whose value is not stored."""
        self._may_run(key, record, "I1")
        self._inputs(key, record)
        for step_id in self._risen(record["step_id"]):
            self._visible[step_id] = seq
            self._passed.add(step_id)

    def voided(self, key: str, seq: int, record: Fields) -> None:
        """Such a value was lost, and the step may run again."""
        if record["step_id"] not in self._passed:
            raise BrokenPromiseError("I1", key, "a step that passed nothing is voided", record)
        for step_id in self._risen(record["step_id"]):
            del self._visible[step_id]
            self._passed.remove(step_id)

    def _risen(self, step_id: str) -> list[str]:
        found = []
        while step_id:
            found.append(step_id)
            step_id = self._gives.get(step_id, "")
        return found

    def expanded(self, key: str, seq: int, record: Fields) -> None:
        """The DAG that a step returned, which is its one execution."""
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
        """Its last try raised."""
        self._may_run(key, record, "I1")
        if record.get("value") is not None:
            self._value(key, record["value"], record)
        self._over.add(record["step_id"])

    def canceled(self, key: str, seq: int, record: Fields) -> None:
        """It will not run; a dynamic step may be canceled with its sub-DAG."""
        if record["step_id"] in self._visible:
            raise BrokenPromiseError("I1", key, "a step that has its outcome is canceled", record)
        self._open(key, record, "I1")
        self._over.add(record["step_id"])
        self._timers.discard(record["step_id"])

    def request_handled(self, key: str, seq: int, record: Fields) -> None:
        """A request took effect."""

    def status(self, key: str, seq: int, record: Fields) -> None:
        """An end, or a goodbye."""
        status = record["status"]
        if status == "RESUMABLE":
            self._goodbye = True
        elif status in ("SUCCESSFUL", "FAILED", "CANCELED"):
            if status == "SUCCESSFUL" and self._output not in self._visible:
                raise BrokenPromiseError("I2", key, f"it succeeded, but {self._output!r} has no outcome", record)
            self.history.end, self._end_seq, self._terminal = status, seq, record
        else:
            raise BrokenPromiseError("format", key, "no status that a record may tell", record)

    def elsewhere(self, key: str, seq: int, record: Fields) -> NoReturn:
        """A record that stands in names or snapshots only."""
        raise BrokenPromiseError("format", key, "such a record never stands in a segment", record)

    def snapshot(self, key: str) -> None:
        """It tells the outcomes of the log up to its seq, no others and no fewer."""
        seq = int(key.rpartition("/")[2])
        head, *records = self.records(key, seq)
        if head["k"] != "SnapshotHeader" or head["seq"] != seq:
            raise BrokenPromiseError("snapshot", key, "does not begin with its own head", head)
        if self.key("log", seq) not in self._objects:
            raise BrokenPromiseError("snapshot", key, "the last segment that it tells of is not there", head)
        told: dict[str, Fields] = {}
        for record in records:
            if record["k"] == "StepCommitted":
                told[record["step_id"]] = record
                logged = self._values.get(record["step_id"], {})
                if _outcome(logged) != _outcome(record):
                    raise BrokenPromiseError("snapshot", key, "the log does not tell this outcome", record)
        expansions = {record["step_id"] for record in records if record["k"] == "StepExpanded"}
        known = {step_id for step_id in self._values if self.history.outcomes[step_id] <= seq}
        if set(told) != known or expansions != {step for step, at in self._expanded.items() if at <= seq}:
            raise BrokenPromiseError("snapshot", key, f"differs from the log in {sorted(set(told) ^ known)[:10]}", head)

    def compare(self, told: Told) -> None:
        """With what the test knows besides."""
        if told.value is not None:
            self._compare_value(told.value)
        for epoch, step_id in told.begun:
            self._execution(epoch, step_id)

    def _execution(self, epoch: int, step_id: str) -> None:
        key, seen = f"{self._folder}/log/", f"step {step_id!r} was executed in epoch {epoch}"
        claim, last = self.history.claims.get(epoch), self.history.claims.get(epoch + 1)
        if claim is None:
            raise BrokenPromiseError("fence", key, f"{seen}, which nobody claimed")
        if step_id not in self._specs:
            raise BrokenPromiseError("I4", key, f"{seen}, but nobody committed that it exists")
        done = min(self._visible.get(step_id, claim + 1), self._expanded.get(step_id, claim + 1))
        if done <= claim:
            raise BrokenPromiseError(
                "I3", key, f"{seen}, but is done since segment {done}, before the claim in segment {claim}"
            )
        needed = {parent: self._visible.get(parent) for parent in self._specs[step_id].get("parents", ())}
        if step_id in self._scope:
            needed[self._scope[step_id]] = self._expanded[self._scope[step_id]]
        for each, since in needed.items():
            if since is None or (last is not None and since >= last):
                raise BrokenPromiseError(
                    "I4", key, f"{seen}, but {each!r}, which it needs, was committed in segment {since}"
                )

    def _compare_value(self, oracle: bytes | str) -> None:
        key = self.key("log", self._end_seq)
        if self.history.end != "SUCCESSFUL":
            raise BrokenPromiseError(
                "I2", key, f"the oracle has a value, but the run ended {self.history.end or 'not at all'}"
            )
        giver = self._output
        below = {above: step_id for step_id, above in self._gives.items()}
        while giver not in self._values:
            giver = below[giver]
        record = self._values[giver]
        found = record.get("text", "") if isinstance(oracle, str) else self._value(key, record["value"], record)
        if found != oracle:
            raise BrokenPromiseError(
                "I2", key, f"the oracle's value is {oracle[:200]!r}, here stands {found[:200]!r}", record
            )

    def _graph(self, key: str, record: Fields) -> Fields:
        if record.get("graph") is not None:
            graph: Fields = record["graph"]
        elif record.get("graph_blob"):
            graph = json.loads(self._blob(key, record["graph_blob"], record))
        else:
            raise BrokenPromiseError("I5", key, "holds neither a DAG nor its blob", record)
        return graph

    def _insert(self, key: str, graph: Fields, parent: str) -> None:
        members: set[str] = set()
        for spec in graph["steps"]:
            step_id = spec["step_id"]
            if step_id in self._specs:
                raise BrokenPromiseError("I1", key, f"two steps are called {step_id!r}", spec)
            if not members.issuperset(spec.get("parents", ())):
                raise BrokenPromiseError(
                    "I4", key, f"takes the outcome of a step that does not stand before it: {step_id!r}", spec
                )
            members.add(step_id)
            self._specs[step_id] = spec
            self.history.steps.append(step_id)
            if parent:
                self._scope[step_id] = parent
            if spec.get("kind") != "SLEEP":
                self._blob(key, spec["function"], spec)
                self._value(key, spec["args"], spec)
        if graph["output"] not in members:
            raise BrokenPromiseError("steps", key, "the output of a DAG is none of its steps", graph["output"])
        if not parent:
            self._phases.insert(graph, "")

    def _may_run(self, key: str, record: Fields, number: str) -> None:
        step_id = record["step_id"]
        if step_id in self._visible or step_id in self._expanded:
            raise BrokenPromiseError(number, key, f"step {step_id!r} has its execution behind it", record)
        self._open(key, record, number)

    def _open(self, key: str, record: Fields, number: str) -> None:
        if record["step_id"] in self._over:
            raise BrokenPromiseError(number, key, "the step failed or was canceled, and nothing voided that", record)
        if self._closed(record["step_id"]):
            raise BrokenPromiseError("steps", key, "its dynamic step has an outcome already", record)

    def _closed(self, step_id: str) -> bool:
        above = self._scope.get(step_id)
        return above is not None and above in self._visible

    def _inputs(self, key: str, record: Fields) -> None:
        for parent in self._specs[record["step_id"]].get("parents", ()):
            if parent not in self._visible:
                raise BrokenPromiseError("I4", key, f"{parent!r} had no outcome yet", record)

    def _value(self, key: str, value: Fields, record: Fields) -> bytes:
        """The pickle of a value, which is there, whole, with all objects that it refers to."""
        if value.get("inline") is not None:
            data = base64.b64decode(value["inline"], validate=True)
        elif value.get("blob"):
            data = self._blob(key, value["blob"], record)
        else:
            raise BrokenPromiseError("I5", key, "a value that is neither here nor in a blob", record)
        if len(data) != value.get("size", 0):
            raise BrokenPromiseError("I5", key, f"a value of {len(data)} bytes that says another size", record)
        self._references(key, data, record)
        return data

    def _references(self, key: str, data: bytes, record: Fields) -> None:
        for found in _REFERENCE.finditer(data):
            name = found[1].decode()
            if name not in self._whole:
                self._references(key, self._blob(key, name, record), record)

    def _blob(self, key: str, name: str, record: Fields) -> bytes:
        blob = f"{self._folder}/blobs/{name}"
        data = self._objects.get(blob)
        if data is None:
            raise BrokenPromiseError("I5", key, f"names the blob {blob}, which is not there", record)
        if name not in self._whole:
            if hashlib.sha256(data).hexdigest() != name:
                raise BrokenPromiseError(
                    "I5", key, f"names the blob {blob}, whose {len(data)} bytes are others", record
                )
            self._whole.add(name)
        return data


def _outcome(record: Fields) -> Sequence[Any]:
    return record.get("value"), record.get("caught", False)


KINDS: dict[str, Callable[[_Run, str, int, Fields], None]] = {
    "Created": _Run.elsewhere,
    "Tombstone": _Run.elsewhere,
    "SnapshotHeader": _Run.elsewhere,
    "Claimed": _Run.claimed,
    "StepStarted": _Run.started,
    "TimerSet": _Run.timer,
    "StepCommitted": _Run.committed,
    "StepReturnedEphemeral": _Run.passed,
    "StepEphemeralLost": _Run.voided,
    "StepExpanded": _Run.expanded,
    "StepFailed": _Run.failed,
    "StepCanceled": _Run.canceled,
    "RequestHandled": _Run.request_handled,
    "StatusChanged": _Run.status,
}
