"""Writes the golden logs and pickles: small whole runs in the present format, which every later version must read.

    python -m tests.support.make_golden [folder]

Ids, times and the recorded version are fixed, so that the same code writes the same bytes. A set that was released is
never written again. If the format changes, write a new set beside it and add the folder to `SETS`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import operator
import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support import runs
from tests.support.runs import committed, created, expanded, failed, graph, started
from workflow import WorkflowStatus, errors, reading, requests
from workflow.event_listener import Checkpointed, Poll, TimerListener
from workflow.log import registry, stored_names, values
from workflow.log.claim import Claimant, claim
from workflow.log.pickled import Pickled
from workflow.log.run_log import RunLog
from workflow.log.stored_function import StoredFunction
from workflow.model import failure, snapshot
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, WaitOptions
from workflow.model.program import Program
from workflow.model.run_view import Owner
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.store.port import Store

ROOT = Path(__file__).parents[1] / "unit" / "log" / "golden"
CURRENT = "2"
SETS = ("1", "2")
"""Folders below ROOT, one for each change of the format."""

SMALL = 600
"""Bytes up to which values and DAGs are part of their records here, so that golden blobs are small.

Parts of values are blobs of their own from this size.
"""

CONTENT = b"content" * SMALL
"""The large part of two values."""

PERSON = Requester("", 0, "someone")
PROGRAM = Program("a-host", "a-process", "trip")
S = WorkflowStatus


def main(folder: Path) -> None:
    """Write all golden logs and pickles below a folder."""
    for name, make in LOGS.items():
        store = made(make)
        for info in store.list(""):
            path = folder / "logs" / name / info.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get(info.key) or b"")
        (folder / "views").mkdir(parents=True, exist_ok=True)
        (folder / "views" / f"{name}.json").write_text(view_text(store))
    (folder / "pickles").mkdir(parents=True, exist_ok=True)
    for name, data in pickles().items():
        (folder / "pickles" / f"{name}.pickle").write_bytes(data)


def made(make: Callable[[Store], None]) -> MemoryStore:
    """Make one golden log in a store, with fixed ids, times and versions."""
    store = MemoryStore()
    numbers, times = itertools.count(1), itertools.count(100)
    with ExitStack() as stack:
        for name, value in {
            "uuid.uuid4": lambda: uuid.UUID(int=next(numbers)),
            "workflow.requests.time.time": lambda: float(next(times)),
            "workflow.requests.versions": lambda: "python 3, rayworkflow golden",
            "workflow.log.segments.library_version": lambda: "golden",
            "workflow.log.blobs.INLINE_LIMIT": SMALL,
            "workflow.log.blobs.OUT_OF_BAND_LIMIT": SMALL,
            "workflow.log.pickled.OUT_OF_BAND_LIMIT": SMALL,
        }.items():
            stack.enter_context(mock.patch(name, value))
        make(store)
    return store


def view_text(store: Store) -> str:
    """Return what a reader gets of the newest run of workflow `w`: its view and its totals, as JSON."""
    view, totals = reading.read_run(store, "w"), reading.read_totals(store, "w")
    assert view is not None
    found = {"view": dataclasses.asdict(view), "totals": dataclasses.asdict(totals) if totals is not None else None}
    for owner in [each["owner"] for each in found.values() if each is not None]:
        if not owner["process"]:  # the views of set 1 have no such field
            del owner["process"]
    return json.dumps(found, indent=1) + "\n"


def begin(store: Store, dag: Graph, **fields: Any) -> RunLog:
    """Create a run with its function."""
    record = created(dag, versions="python 3, rayworkflow golden", **fields)
    assert registry.register(store, record).created
    log = RunLog(store, record)
    log.blobs.put(b"a function")
    return log


def success(store: Store) -> None:
    log = begin(store, graph("a b:a"), metadata='{"team": "x"}', main_script="trip.py", max_resumes=5, program=PROGRAM)
    large = log.blobs.store_value(b"large" * SMALL)
    end = r.StatusChanged(S.SUCCESSFUL, 1, 6.0)
    runs.append(log, [started("a")], [dataclasses.replace(committed("a"), value=large), started("b")])
    runs.append(log, [dataclasses.replace(committed("b"), text='"v"'), end])


def values_in_parts(store: Store) -> None:
    """Two values, `[CONTENT]` and `CONTENT`, have a part in common."""
    log = begin(store, graph("a b:a"))
    payload = b"B" + len(CONTENT).to_bytes(4, "little")
    wrapped = log.blobs.store_value(Pickled([b"\x80\x05]\x94" + payload, CONTENT, b"\x94a."]))
    bare = log.blobs.store_value(Pickled([b"\x80\x05" + payload, CONTENT, b"\x94."]))
    runs.append(log, [started("a")], [dataclasses.replace(committed("a"), value=wrapped), started("b")])
    runs.append(log, [dataclasses.replace(committed("b"), value=bare)], [r.StatusChanged(S.SUCCESSFUL, 1, 6.0)])


def failure_and_retry(store: Store) -> None:
    log = begin(store, graph("a b:a", a=StepOptions(max_retries=2, ray={"num_cpus": 2}, metadata='{"k": 1}')))
    runs.append(log, [started("a")], [r.StepStarted("a", 1, 2, 3.0, failed_attempts=1, error=failed("a").error)])
    state = log.replay()
    log.append(state, failure.consequences(state, state.steps["a"], failed("a"), runs.value("pickled error")))
    new = log.blobs.put(b"a corrected function")
    functions = {runs.FUNCTION: new}
    claim(log, state, Claimant(Owner("m2", "i2", "manager-2"), 8.0, retry_failed=state.seq, functions=functions))
    log.append(state, [started("a", 2)])
    log.append(state, [committed("a", 2), started("b", 2)])
    log.append(state, [committed("b", 2), r.StatusChanged(S.SUCCESSFUL, 2, 9.0)])


def caught_failure(store: Store) -> None:
    log = begin(store, graph("a b:a", a=StepOptions(catch_exceptions=True)))
    runs.append(log, [started("a")], [dataclasses.replace(committed("a"), caught=True), started("b")])


def expansion(store: Store) -> None:
    log = begin(store, graph("a b:a"))
    runs.append(log, [started("a")], [expanded("a", graph("a/1 a/2:a/1")), started("a/1")])
    wide = graph(" ".join(f"a/1/{number}" for number in range(5)))
    inline, blob = log.blobs.store_graph(wide)
    assert inline is None
    runs.append(log, [r.StepExpanded("a/1", 1, None, blob, started=2.0, ended=3.0)])
    runs.append(log, [committed("a/1/4"), started("a/2")], [committed("a/2"), started("b")])


def waits(store: Store) -> None:
    listened = dataclasses.replace(graph("e").steps[0], kind=StepKind.EVENT, module="events")
    dag = Graph((runs.sleeper("s", 60.0), listened, *graph("o").steps), "o")
    log = begin(store, dag)
    runs.append(log, [r.TimerSet("s", 1, 2.0, 62.0), started("e"), started("o")])
    claim(log, log.replay(), Claimant(Owner("m2", "i2"), 30.0))
    runs.append(log, [started("e", 2)], [committed("s", 2)])


def wait_for_some(store: Store) -> None:
    """A wait with a timeout decides, a later DAG takes what it left over, and another wait is open."""
    *steps, last = graph("a b z:w").steps[:2] + graph("w:a,b z:w,v v:a,b").steps
    first = dataclasses.replace(steps[2], kind=StepKind.WAIT, function="", wait=WaitOptions(2, 60.0))
    second = dataclasses.replace(last, kind=StepKind.WAIT, function="", wait=WaitOptions(2))
    dag = Graph((*steps[:2], first, second, steps[3], *graph("o:z").steps), "o")
    log = begin(store, dag)
    runs.append(log, [r.TimerSet("w", 1, 2.0, 62.0), started("a"), started("b")], [committed("a")])
    claim(log, log.replay(), Claimant(Owner("m2", "i2"), 63.0))
    runs.append(log, [r.WaitDecided("w", 2, ("a",), 2.0, 63.0)], [started("b", 2)])
    state = log.replay()
    log.write_snapshot(state.seq, snapshot.compact(state))
    runs.append(log, [committed("b", 2), r.WaitDecided("v", 2, ("a", "b"), ended=64.0), started("z", 2)])
    runs.append(log, [expanded("z", graph("z/y:b"), 2), started("z/y", 2)])


def ephemeral(store: Store) -> None:
    once = StepOptions(checkpoint=False)
    log = begin(store, graph("a b:a c:b", a=once, b=once))
    runs.append(
        log,
        [started("a")],
        [runs.returned_ephemeral("a"), started("b")],
        [r.StepEphemeralLost("a", 1), started("a", 1, 2)],
    )
    runs.append(
        log,
        [runs.returned_ephemeral("a", attempt=2), started("b", 1, 2)],
        [runs.returned_ephemeral("b", attempt=2), started("c")],
    )
    claim(log, log.replay(), Claimant(Owner("m2", "i2"), 8.0))


def cancel(store: Store) -> None:
    log = begin(store, graph("a b:a"))
    runs.append(log, [started("a")])
    state = log.replay()
    stopped = failure.cancellations(state, state.active_steps(), "Asked")
    handled = r.RequestHandled("request-1", 1, "canceled the run")
    log.append(state, [handled, *stopped, r.StatusChanged(S.CANCELED, 1, 5.0, "Asked")])


def release_and_claim(store: Store) -> None:
    log = begin(store, graph("a b:a"), owner=Owner("m1", "i1", "manager-1", "uid-1", 1))
    runs.append(log, [started("a")], [r.StatusChanged(S.RESUMABLE, 1, 4.0, "Left")])
    owner = Owner("m2", "i2", "manager-2", "uid-1", 2, process="4be0c1d2e3f4 6808-123456 6667-123400")
    claim(log, log.replay(), Claimant(owner, 6.0, reason="Resumed"))


def released(store: Store) -> None:
    log = begin(store, graph("a"))
    runs.append(log, [started("a")])
    requests.release_run(store, "w", run_number=1, requester=PERSON, reason="Left")


def resumes_exhausted(store: Store) -> None:
    log = begin(store, graph("a"), max_resumes=0)
    runs.append(log, [started("a")])
    claim(log, log.replay(), Claimant(Owner("m2", "i2"), 6.0))


def with_snapshot(store: Store) -> None:
    once = StepOptions(checkpoint=False)
    dag = graph("a b:a c d:c e f g:b,d,e,f", c=once)
    log = begin(store, Graph((runs.sleeper("s", 60.0), *dag.steps), "g"))
    runs.append(log, [r.TimerSet("s", 1, 2.0, 62.0), started("a"), started("c"), started("e")])
    runs.append(log, [committed("a"), runs.returned_ephemeral("c"), expanded("e", graph("e/1 e/2:e/1")), started("b")])
    runs.append(log, [r.RequestHandled("request-1", 1, "nothing")], [failed("b"), r.StepCanceled("f", 1, "with b")])
    runs.append(log, [started("d")], [r.StepStarted("d", 1, 2, 9.0, failed_attempts=1, error=failed("d").error)])
    state = log.replay()
    log.write_snapshot(state.seq, snapshot.compact(state))
    runs.append(log, [started("e/1")])


def tombstone(store: Store) -> None:
    requests.end_run(
        store, "w", run_number=1, status=S.FAILED, reason="DeadlineExceeded", message="took too long", requester=PERSON
    )


def deleted(store: Store) -> None:
    log = begin(store, graph("a"))
    runs.append(log, [started("a")])
    requests.delete_run(store, "w", run_number=1, requester=PERSON)


LOGS: dict[str, Callable[[Store], None]] = {
    "success": success,
    "values-in-parts": values_in_parts,
    "failure-and-retry": failure_and_retry,
    "caught-failure": caught_failure,
    "expansion": expansion,
    "waits": waits,
    "wait-for-some": wait_for_some,
    "ephemeral": ephemeral,
    "cancel": cancel,
    "release-and-claim": release_and_claim,
    "released": released,
    "resumes-exhausted": resumes_exhausted,
    "snapshot": with_snapshot,
    "tombstone": tombstone,
    "deleted": deleted,
}


class _Replaced:
    """Pickled as a call of a function of `stored_names`."""

    def __init__(self, reduced: tuple[Any, ...]) -> None:
        self.reduced = reduced


def pickles() -> dict[str, bytes]:
    """One pickle for each way in which a stored pickle refers to the library. None of them contains byte code."""
    from workflow import sleep, step  # needs Ray

    made_ = {
        "step-function": step(max_retries=3, name="plus", num_cpus=2)(operator.add),
        "poll": Poll(TimerListener),
        "checkpointed": Checkpointed(TimerListener, True),
        "mark": _Replaced(values.mark("parent", "0")),
        "mark-parent-reference": _Replaced(values.mark("parent_reference", "0")),
        "mark-value": _Replaced(values.mark("value", "0" * 64)),
        "dataset": _Replaced((stored_names.dataset, ([],))),
        "actor-handle": _Replaced((stored_names.actor_handle, ("session_1", "Counter", operator.add, (1, 2)))),
        "remaining-workflow": _Replaced((stored_names.remaining_workflow, ("run-1", "a"))),
        "public-function": sleep,
        "error": errors.WorkflowConflictError("no", status=S.RUNNING),
        "error-newer": errors.NewerFormatError("no", key="k"),
        "class": type("Point", (), {"__module__": "user_code", "x": 1})(),
        "attribute": _Replaced((stored_names.attribute, ("operator", "add"))),
        "step-body": _Replaced((stored_names.step_body, ("operator", "add"))),
        "module-globals": _Replaced((stored_names.module_globals, ("operator",))),
        "function": StoredFunction("user_code", "f", "d1", "3.9", "/user_code.py", b"reference", None, "a lock"),
        "loaded": _Replaced((stored_names.loaded, (_function_of_operator(),))),
    }
    with mock.patch("uuid.uuid4", return_value=uuid.UUID(int=1)):  # the id of the class
        return {name: _bytes(values.dumps(value, _reduce)) for name, value in made_.items()}


def _function_of_operator() -> StoredFunction:
    """Return a stored function without byte code, which every version of Python has."""
    reference = _bytes(values.dumps(_Replaced((stored_names.step_body, ("operator", "add"))), _reduce))
    return StoredFunction("operator", "add", "", "3.9", "", reference, None, "it has no Python code")


def _reduce(obj: Any) -> tuple[Any, ...] | None:
    return obj.reduced if isinstance(obj, _Replaced) else None


def _bytes(data: Any) -> bytes:
    assert isinstance(data, bytes), "golden pickles are small"
    return data


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / CURRENT)
