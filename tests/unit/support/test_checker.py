"""The checker finds each broken promise and reports its number and key. Logs are written by hand, one fault each."""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import checker, history, phases, stored, stored_values
from tests.support.checker import check
from tests.support.history import Expected
from tests.support.phases import Phases
from tests.support.stored import BrokenRuleError, sealed

NAME = "workflows/w%2F1/registry/0000000001"
FOLDER = "workflows/w%2F1/runs/1-uuid"
RAISED = {"kind": "ValueError", "message": "boom"}
Record = dict[str, Any]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def value(data: bytes) -> Record:
    return {"inline": base64.b64encode(data).decode(), "size": len(data)}


def refers_to(data: bytes) -> bytes:
    """A pickle that refers to a stored object, as cloudpickle writes it."""
    return b"\x80\x05\x8c\x06object\x94\x8c@" + sha(data).encode() + b"\x94\x86\x94R."


FUNCTION, LARGE, OBJECT = b"function", b"large" * 100, b"object"
PART = b"part of a pickle" * 10


def parts_list(size: int, *parts: tuple[int, int, str], inline: bytes = b"") -> bytes:
    """A list of the parts of a pickle."""
    header = json.dumps({"size": size, "parts": parts}).encode()
    return b"rwf-parts-1 %d\n%s%s" % (len(header), header, inline)


LISTED = parts_list(len(PART) + 5, (2, len(PART), sha(PART)), inline=b"12end")
WRONG_LISTS = [
    parts_list(len(PART) + 4, (2, len(PART), sha(PART)), inline=b"12end"),
    parts_list(len(PART) + 5, (2, len(PART) + 1, sha(PART)), inline=b"12end"),
    parts_list(len(PART) + 5, (9, len(PART), sha(PART)), inline=b"12end"),
    parts_list(2 * len(PART), (0, len(PART), sha(PART)), (1, len(PART), sha(PART))),
]
REFERRING = refers_to(OBJECT)


def spec(step_id: str, *parents: str) -> Record:
    return {"step_id": step_id, "function": sha(FUNCTION), "args": value(b"args"), "parents": list(parents)}


def claimed(epoch: int, **more: Any) -> Record:
    return {"k": "Claimed", "epoch": epoch, **more}


def started(step_id: str, epoch: int) -> Record:
    return {"k": "StepStarted", "step_id": step_id, "epoch": epoch}


def committed(step_id: str, epoch: int, data: bytes = b"v", **more: Any) -> Record:
    return {"k": "StepCommitted", "step_id": step_id, "epoch": epoch, "value": value(data), **more}


def expanded(step_id: str, epoch: int, *members: Record) -> Record:
    graph = {"steps": list(members), "output": members[-1]["step_id"]}
    return {"k": "StepExpanded", "step_id": step_id, "epoch": epoch, "graph": graph}


def timer(step_id: str, epoch: int, due: float = 15.0) -> Record:
    return {"k": "TimerSet", "step_id": step_id, "epoch": epoch, "at": 5.0, "due": due}


def failed(step_id: str, epoch: int) -> Record:
    return {"k": "StepFailed", "step_id": step_id, "epoch": epoch, "error": RAISED}


def canceled(step_id: str, epoch: int) -> Record:
    return {"k": "StepCanceled", "step_id": step_id, "epoch": epoch, "reason": "r"}


def status(word: str, epoch: int) -> Record:
    return {"k": "StatusChanged", "status": word, "epoch": epoch, "at": 9.0}


def segments() -> list[list[Record]]:
    """Three epochs: the owner died, the run failed, the retry succeeded."""
    return [
        [started("a", 1), started("b", 1)],
        [committed("a", 1, REFERRING)],
        [claimed(2)],
        [started("b", 2)],
        [expanded("b", 2, spec("b/1"), spec("b/2", "b/1")), started("b/1", 2)],
        [failed("b/1", 2), canceled("b", 2), status("FAILED", 2)],
        [claimed(3, retry_failed=6), {"k": "RequestHandled", "request": "r", "epoch": 3, "did": "d"}],
        [started("b/1", 3)],
        [committed("b/1", 3), started("b/2", 3)],
        [{**committed("b/2", 3), "value": {"blob": sha(LARGE), "size": len(LARGE)}}, started("c", 3)],
        [committed("c", 3, b"end", text='"end"'), status("SUCCESSFUL", 3)],
    ]


def totals(epoch: int, status_: str = "RUNNING", **steps: int) -> Record:
    ended = {} if status_ == "RUNNING" else {"ended": 9.0}
    return {"epoch": epoch, "status": status_, "steps": steps, **ended}


def totals_by_hand() -> list[Record]:
    """Return the totals after each of `segments()`."""
    return [
        totals(1, RUNNING=2, WAITING=1),
        totals(1, COMMITTED=1, RUNNING=1, WAITING=1),
        totals(2, COMMITTED=1, READY=1, WAITING=1),
        totals(2, COMMITTED=1, RUNNING=1, WAITING=1),
        totals(2, COMMITTED=1, EXPANDED=1, RUNNING=1, WAITING=2),
        totals(2, "FAILED", COMMITTED=1, CANCELED=1, FAILED=1, WAITING=2),
        totals(3, COMMITTED=1, EXPANDED=1, READY=1, WAITING=2),
        totals(3, COMMITTED=1, EXPANDED=1, RUNNING=1, WAITING=2),
        totals(3, COMMITTED=2, EXPANDED=1, RUNNING=1, WAITING=1),
        totals(3, COMMITTED=4, RUNNING=1),
        totals(3, "SUCCESSFUL", COMMITTED=5),
    ]


def totals_of(graph: Record, log: list[list[Record]]) -> list[Record]:
    """Return the totals of a log that a test has changed."""
    folded, found, now = Phases(), [], totals(1)
    folded.insert(graph, "")
    for records in log:
        for record in records:
            folded.fold(record, record.get("graph"))
            if record["k"] == "Claimed":
                now = totals(record["epoch"])
            elif record["k"] == "StatusChanged":
                now = totals(record["epoch"], record["status"])
        found.append({**now, "steps": folded.totals()})
    return found


@dataclass
class Stored:
    """A correct run, until a case breaks it."""

    log: list[list[Record]] = field(default_factory=segments)
    blobs: dict[str, bytes] = field(default_factory=lambda: {sha(each): each for each in (FUNCTION, LARGE, OBJECT)})
    created: Record = field(
        default_factory=lambda: {
            "k": "Created",
            "workflow_id": "w/1",
            "run_number": 1,
            "run_uuid": "uuid",
            "graph": {"steps": [spec("a"), spec("b"), spec("c", "a", "b")], "output": "c"},
        }
    )
    snapshot: list[Record] = field(
        default_factory=lambda: [
            {"k": "SnapshotHeader", "seq": 9},
            expanded("b", 2, spec("b/1"), spec("b/2", "b/1")),
            committed("a", 1, REFERRING),
            committed("b/1", 3),
        ]
    )
    after: dict[str, bytes | None] = field(default_factory=dict)
    totals: list[Any] | None = field(default_factory=lambda: totals_by_hand())

    def put(self, seq: int, *records: Record, at: int | None = None) -> None:
        """Insert records into a segment: at a place, or at its end."""
        place = len(self.log[seq - 1]) if at is None else at
        self.log[seq - 1][place:place] = records

    def store_in_parts(self, listed: bytes, *parts: bytes, size: int = len(PART) + 5) -> None:
        """Let the value of `b/2` consist of parts."""
        self.blobs.update({sha(each): each for each in (listed, *parts)})
        self.log[9][0]["value"] = {"blob": sha(listed), "size": size}

    def objects(self) -> dict[str, bytes]:
        """As they are in the store."""
        totals = self.totals if self.totals is not None else totals_of(self.created["graph"], self.log)
        found = {NAME: sealed({"run": "uuid", "seq": 0, "put_id": "p0"}, [self.created])}
        for seq, records in enumerate(self.log, 1):
            header = {"run": "uuid", "seq": seq, "put_id": f"p{seq}", "totals": totals[seq - 1]}
            found[segment(seq)] = sealed(header, records)
        found[f"{FOLDER}/snapshot/{9:020d}"] = sealed({"run": "uuid", "seq": 9, "put_id": "ps"}, self.snapshot)
        found.update({f"{FOLDER}/blobs/{name}": data for name, data in self.blobs.items()})
        for key, data in self.after.items():
            if data is None:
                del found[key]
            else:
                found[key] = data
        return found


def segment(seq: int) -> str:
    return f"{FOLDER}/log/{seq:020d}"


def _store_wrong_parts(listed: bytes, it: Stored) -> None:
    it.store_in_parts(listed, PART)


def _store_damaged_part(it: Stored) -> None:
    it.store_in_parts(LISTED)
    it.blobs[sha(PART)] = PART[1:]


def _refer_in_a_part(it: Stored, name: str) -> None:
    part = refers_to(OBJECT).replace(sha(OBJECT).encode(), name.encode())
    it.store_in_parts(parts_list(len(part), (0, len(part), sha(part))), part, size=len(part))


OTHER = spec("a") | {"step_id": "b/1"}
BREAKS: dict[str, tuple[str, Callable[[Stored], object]]] = {
    "second outcome in one epoch": ("I1", lambda it: it.put(9, committed("b/1", 3))),
    "second outcome in a later epoch": ("I1", lambda it: it.put(8, committed("a", 3, b"other"))),
    "value of an expanded step": ("I1", lambda it: it.put(8, committed("b", 3))),
    "second expansion": ("I1", lambda it: it.put(8, expanded("b", 3, spec("b/3")))),
    "expansion of a step with a value": ("I1", lambda it: it.put(8, expanded("a", 3, spec("a/1")))),
    "failure after an outcome": ("I1", lambda it: it.put(8, failed("a", 3))),
    "cancellation after an outcome": ("I1", lambda it: it.put(8, canceled("a", 3))),
    "outcome of a failed step without a retry": ("I1", lambda it: it.put(6, committed("b/1", 2), at=1)),
    "two steps with one id": ("I1", lambda it: it.put(8, expanded("b/1", 3, OTHER))),
    "success without an outcome": ("I2", lambda it: it.log[10].pop(0)),
    "attempt after an outcome": ("I3", lambda it: it.put(8, started("a", 3))),
    "attempt after an expansion": ("I3", lambda it: it.put(8, started("b", 3))),
    "attempt of a canceled step": ("I3", lambda it: it.put(6, canceled("b/2", 2), started("b/2", 2), at=1)),
    "outcome without its inputs": ("I4", lambda it: it.put(4, committed("c", 2))),
    "attempt without its inputs": ("I4", lambda it: it.put(5, started("b/2", 2))),
    "expansion without its inputs": ("I4", lambda it: it.put(4, expanded("c", 2, spec("c/1")))),
    "parent that is not in the DAG": ("I4", lambda it: it.created["graph"]["steps"].insert(0, spec("d", "a"))),
    "function is missing": ("I5", lambda it: it.blobs.pop(sha(FUNCTION))),
    "blob of a value is missing": ("I5", lambda it: it.blobs.pop(sha(LARGE))),
    "object that a value refers to is missing": ("I5", lambda it: it.blobs.pop(sha(OBJECT))),
    "blob is truncated": ("I5", lambda it: it.blobs.update({sha(LARGE): LARGE[:-1]})),
    "part of a value is missing": ("I5", lambda it: it.store_in_parts(LISTED)),
    "part of a value is damaged": ("I5", lambda it: _store_damaged_part(it)),
    "part of a function is missing": ("I5", lambda it: it.blobs.update({sha(FUNCTION): LISTED})),
    "value in parts with another size": ("I5", lambda it: it.store_in_parts(LISTED, PART, size=9)),
    **{
        f"parts that do not fit, {number}": ("I5", functools.partial(_store_wrong_parts, listed))
        for number, listed in enumerate(WRONG_LISTS)
    },
    "object that a part refers to is missing": ("I5", lambda it: _refer_in_a_part(it, sha(b"missing"))),
    "value with another size": ("I5", lambda it: it.log[9][0]["value"].update(size=1)),
    "value without bytes and blob": ("I5", lambda it: it.log[9][0].update(value={})),
    "run without a DAG": ("I5", lambda it: it.created.pop("graph")),
    "blob of a DAG is missing": ("I5", lambda it: it.created.update(graph=None, graph_blob="0" * 64)),
    "code is missing": ("I5", lambda it: it.created.update(code="0" * 64)),
    "registry entry is missing": ("I5", lambda it: it.after.update({NAME: None})),
    "epoch is left out": ("epochs", lambda it: it.log[2][0].update(epoch=3)),
    "epoch is claimed twice": ("epochs", lambda it: it.put(3, claimed(2))),
    "fenced owner commits": ("fence", lambda it: it.put(3, committed("b", 1))),
    "fenced owner ends the run": ("fence", lambda it: it.put(3, status("CANCELED", 1))),
    "record of a later epoch": ("fence", lambda it: it.put(2, started("b", 2))),
    "record after the terminal record": ("end", lambda it: it.put(11, started("b/2", 3))),
    "request after the terminal record": (
        "end",
        lambda it: it.put(11, {"k": "RequestHandled", "request": "q", "epoch": 3, "did": "d"}),
    ),
    "claim of a successful run": ("end", lambda it: it.put(11, claimed(4, retry_failed=11))),
    "claim of a canceled run": ("end", lambda it: _cancel_instead_of_failing(it)),
    "claim of a failed run without a retry": ("end", lambda it: it.log[6][0].pop("retry_failed")),
    "retry of another terminal record": ("end", lambda it: it.log[6][0].update(retry_failed=5)),
    "retry of a run that did not fail": ("end", lambda it: it.log[2][0].update(retry_failed=2)),
    "record after a release": ("end", lambda it: it.put(4, status("RESUMABLE", 2), started("b", 2))),
    "segment is missing": ("gap", lambda it: it.after.update({segment(4): None})),
    "first segment is missing": ("gap", lambda it: it.after.update({segment(1): None})),
    "segment is truncated": ("format", lambda it: it.after.update({segment(4): it.objects()[segment(4)][:-9]})),
    "segment without records": ("format", lambda it: it.log[3].clear()),
    "segment at a wrong key": ("format", lambda it: it.after.update({segment(4): it.objects()[segment(1)]})),
    "two segments with one put id": (
        "format",
        lambda it: it.after.update({segment(4): sealed({"run": "uuid", "seq": 4, "put_id": "p1"}, it.log[3])}),
    ),
    "unknown record kind": ("format", lambda it: it.put(4, {"k": "StepGuessed", "epoch": 2})),
    "registry record in a segment": ("format", lambda it: it.put(4, {"k": "Created", "epoch": 2})),
    "status that no record can have": ("format", lambda it: it.put(4, status("RUNNING", 2))),
    "registry entry of another id": ("format", lambda it: it.created.update(workflow_id="w")),
    "tombstone instead of a run": ("format", lambda it: it.created.update(k="Tombstone")),
    "record of an unknown step": ("steps", lambda it: it.put(4, started("z", 2))),
    "output that is not in the DAG": ("steps", lambda it: it.created["graph"].update(output="z")),
    "timer of a step that does not sleep": ("steps", lambda it: it.put(4, timer("b", 2))),
    "timer set twice": ("steps", lambda it: _asleep(it, timer("s", 1), timer("s", 1))),
    "timer longer than the sleep": ("steps", lambda it: _asleep(it, timer("s", 1, due=15.5))),
    "timer after an outcome": ("I3", lambda it: _asleep(it, timer("s", 1), committed("s", 1), timer("s", 1))),
    "attempt in a finished sub-DAG": ("steps", lambda it: _start_in_a_closed_sub_dag(it)),
    "snapshot with another outcome": ("snapshot", lambda it: it.snapshot[2].update(committed("a", 1, b"other"))),
    "snapshot without an outcome": ("snapshot", lambda it: it.snapshot.pop()),
    "snapshot with a later outcome": (
        "snapshot",
        lambda it: it.snapshot.append({**committed("b/2", 3), "value": it.log[9][0]["value"]}),
    ),
    "snapshot without an expansion": ("snapshot", lambda it: it.snapshot.pop(1)),
    "snapshot of a segment that is not stored": ("snapshot", lambda it: _snapshot_too_early(it)),
    "totals are missing": ("totals", lambda it: it.totals and it.totals.__setitem__(3, None)),
    "totals with another count": ("totals", lambda it: it.totals and it.totals[4]["steps"].update(EXPANDED=2)),
    "totals with a phase that has no step": ("totals", lambda it: it.totals and it.totals[4]["steps"].update(READY=1)),
    "totals without a phase": ("totals", lambda it: it.totals and it.totals[9]["steps"].pop("RUNNING")),
    "totals of the segment before": ("totals", lambda it: _insert_totals(it)),
    "totals of another epoch": ("totals", lambda it: it.totals and it.totals[3].update(epoch=1)),
    "totals of another owner": ("totals", lambda it: it.totals and it.totals[3].update(owner={"manager": "m"})),
    "totals of an unfinished run in its last segment": (
        "totals",
        lambda it: it.totals and it.totals.__setitem__(10, totals(3, COMMITTED=5)),
    ),
    "totals with another status": ("totals", lambda it: it.totals and it.totals[10].update(status="FAILED")),
    "totals with another end": ("totals", lambda it: it.totals and it.totals[10].update(ended=8.0)),
    "totals with a reason that no record has": ("totals", lambda it: it.totals and it.totals[10].update(reason="Why")),
    "snapshot without its header": ("snapshot", lambda it: it.snapshot.pop(0)),
}


def _start_in_a_closed_sub_dag(it: Stored) -> None:
    it.log[4][0]["graph"]["steps"].append(spec("b/3"))
    it.totals = None
    it.put(10, started("b/3", 3))


def _cancel_instead_of_failing(it: Stored) -> None:
    it.log[5][2]["status"] = "CANCELED"
    it.totals = None


def _insert_totals(it: Stored) -> None:
    assert it.totals is not None
    it.totals.insert(0, it.totals[0])


def _snapshot_too_early(it: Stored) -> None:
    del it.log[8:]
    del it.snapshot[3]


def _asleep(it: Stored, *records: Record) -> None:
    sleeper = {"step_id": "s", "function": "", "args": {}, "parents": [], "kind": "SLEEP", "seconds": 10.0}
    it.created["graph"]["steps"].insert(0, sleeper)
    it.totals = None
    it.put(1, *records)


def test_a_sleep_continues_in_later_epochs_until_it_is_canceled() -> None:
    it = Stored()
    _asleep(it, timer("s", 1))
    it.put(6, canceled("s", 2), at=1)
    it.put(8, timer("s", 3, due=14.0))
    assert check(it.objects(), "w/1").end == "SUCCESSFUL"


def test_a_correct_run_passes_and_its_history_is_returned() -> None:
    history = check(Stored().objects(), "w/1", expected=Expected(b"end"))
    assert history.claims == {1: 0, 2: 3, 3: 7}
    assert history.executed == ["a", "b", "b/1", "b/2", "c"]
    assert history.outcomes == {"a": 2, "b/1": 9, "b/2": 10, "c": 11}
    assert history.end == "SUCCESSFUL"


def test_a_dynamic_step_catches_the_failure_of_its_sub_dag() -> None:
    it = Stored()
    it.totals = None
    it.log[5:] = [[failed("b/1", 2), canceled("b/2", 2), committed("b", 2, caught=True), started("c", 2)]]
    it.snapshot[0]["seq"] = 5
    del it.snapshot[3]
    it.after = {f"{FOLDER}/snapshot/{9:020d}": None}
    assert check(it.objects(), "w/1").executed == ["a", "b", "b"]


def refused(it: Stored, breaks: Callable[[Stored], object]) -> BrokenRuleError:
    """Break a promise in a store, and return the error that reports it."""
    breaks(it)
    with pytest.raises(BrokenRuleError) as found:
        check(it.objects(), "w/1")
    return found.value


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_promise_is_reported_with_number_and_key(case: str) -> None:
    number, breaks = BREAKS[case]
    found = refused(Stored(), breaks)
    assert found.number == number
    assert found.key.startswith("workflows/w%2F1/")
    assert found.key in str(found)


EXPECTED: dict[str, tuple[str, Expected]] = {
    "another value": ("I2", Expected(b"other")),
    "another text": ("I2", Expected("other")),
    "execution in an epoch after the outcome": ("I3", Expected(executions=[(2, "a")])),
    "execution after an expansion": ("I3", Expected(executions=[(3, "b")])),
    "execution before its input was committed": ("I4", Expected(executions=[(2, "c")])),
    "execution before its expansion was committed": ("I4", Expected(executions=[(1, "b/1")])),
    "execution of an unknown step": ("I4", Expected(executions=[(3, "b/9")])),
    "execution in an unknown epoch": ("fence", Expected(executions=[(4, "c")])),
}


def decided(step_id: str, *ready: str) -> Record:
    return {"k": "WaitDecided", "step_id": step_id, "epoch": 1, "ready": list(ready)}


def done(step_id: str) -> Record:
    return committed(step_id, 1)


def with_wait() -> Stored:
    """A correct run in which `w` waits for one of `a` and `b`, and a later DAG takes `b`."""
    it = Stored(totals=None, after={f"{FOLDER}/snapshot/{9:020d}": None})
    wait = {"step_id": "w", "kind": "WAIT", "wait": {}, "args": {}, "parents": ["a", "b"]}
    it.created["graph"] = {"steps": [spec("a"), spec("b"), wait, spec("c", "w")], "output": "c"}
    it.log = [
        [started("a", 1), started("b", 1)],
        [committed("a", 1), decided("w", "a"), started("c", 1)],
        [expanded("c", 1, spec("c/1", "b"))],
        [committed("b", 1), started("c/1", 1)],
        [committed("c/1", 1), status("SUCCESSFUL", 1)],
    ]
    return it


RETURNED = {"k": "StepReturnedEphemeral", "step_id": "b", "epoch": 1}
BROKEN_WAITS: dict[str, tuple[str, Callable[[Stored], object]]] = {
    "ready without an outcome": ("I4", lambda it: it.log[1].__setitem__(1, decided("w", "b"))),
    "second decision": ("I1", lambda it: it.put(4, decided("w", "a"))),
    "too few without a timeout": ("steps", lambda it: it.log[1].__setitem__(1, decided("w"))),
    "too many": ("steps", lambda it: it.log.__setitem__(1, [*map(done, "ab"), decided("w", "a", "b")])),
    "ready is not a parent": ("steps", lambda it: it.log[1].__setitem__(1, decided("w", "c"))),
    "decision of a task": ("steps", lambda it: it.put(3, decided("b"))),
    "consumer before the decision": ("I4", lambda it: it.log[1].pop(1)),
    "value that is not stored": ("I5", lambda it: it.log[3].__setitem__(0, RETURNED)),
    "timer of a wait without a timeout": ("steps", lambda it: it.put(1, timer("w", 1))),
    "DAG that takes another step": ("I4", lambda it: it.log.__setitem__(2, [expanded("c", 1, spec("c/1", "c"))])),
}


@pytest.mark.parametrize("case", BROKEN_WAITS)
def test_a_broken_promise_of_a_wait_is_reported(case: str) -> None:
    check(with_wait().objects(), "w/1")
    number, breaks = BROKEN_WAITS[case]
    assert refused(with_wait(), breaks).number == number


@pytest.mark.parametrize("case", EXPECTED)
def test_expectations_of_a_test_are_compared(case: str) -> None:
    number, expected = EXPECTED[case]
    with pytest.raises(BrokenRuleError) as found:
        check(Stored().objects(), "w/1", expected=expected)
    assert found.value.number == number


def test_a_value_in_parts_passes() -> None:
    it = Stored()
    it.store_in_parts(LISTED, PART)
    check(it.objects(), "w/1")
    _refer_in_a_part(it, sha(OBJECT))
    check(it.objects(), "w/1")


def test_allowed_executions_pass() -> None:
    begun = [(1, "a"), (1, "b"), (2, "b"), (2, "b/1"), (3, "b/1"), (3, "b/2"), (3, "c")]
    check(Stored().objects(), "w/1", expected=Expected('"end"', begun))


def test_an_unfinished_run_does_not_have_the_expected_value() -> None:
    it = Stored()
    del it.log[9:]
    with pytest.raises(BrokenRuleError, match="ended not at all"):
        check(it.objects(), "w/1", expected=Expected(b"end"))


@pytest.mark.parametrize(
    "module", [checker, history, phases, stored, stored_values], ids=lambda module: module.__name__
)
def test_the_checker_shares_no_code_with_the_library(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    ours = {name for name in imported if name.split(".")[0] in ("workflow", "workflow_operator", "tests", "dev")}
    assert ours <= {f"tests.support.{name}" for name in ("history", "phases", "stored", "stored_values")}, (
        "these are checked here, too"
    )
