"""The totals in the headers of segments: written by each path that writes segments, and read without a fold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import invariants, runs
from tests.support.runs import committed, failed, started
from workflow import reading, requests
from workflow.engine.owner import takeover
from workflow.errors import CorruptLogError, SupersededError
from workflow.log import registry
from workflow.log.claim import Claimant, claim
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model import snapshot
from workflow.model.run_view import Owner
from workflow.model.status import StepPhase as P
from workflow.model.status import WorkflowStatus as S
from workflow.model.totals import totals_of
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore
from workflow.testing.instrumented import InstrumentedStore

PERSON = Requester("", 0, "someone")
END = r.StatusChanged(S.FAILED, 1, 9.0, "StepFailed")


@pytest.fixture
def log() -> RunLog:
    store = MemoryStore()
    created = runs.created(runs.graph("a b:a"))
    registry.register(store, created)
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    return log


def test_totals_contain_steps_by_phase_owner_and_status(log: RunLog) -> None:
    runs.append(log, [started("a")], [committed("a"), started("b")], [failed("b"), END])
    newest = log.newest_totals()
    assert newest is not None
    seq, totals = newest
    assert (seq, totals) == (3, totals_of(log.replay()))
    assert totals.steps == {P.COMMITTED: 1, P.FAILED: 1}
    assert (totals.epoch, totals.owner, totals.total) == (1, runs.OWNER, 2)
    assert (totals.status, totals.reason, totals.ended) == (S.FAILED, "StepFailed", 9.0)


def end_outside(log: RunLog) -> None:
    requests.end_run(
        log.store, "w", run_number=1, status=S.CANCELED, reason="Asked", message="no more", requester=PERSON
    )


def release_outside(log: RunLog) -> None:
    requests.release_run(log.store, "w", run_number=1, requester=PERSON, reason="Left")


def claim_with_no_resumes_left(log: RunLog) -> None:
    claim(log, log.replay(), Claimant(Owner("m3", "i3"), 5.0))


WRITERS: dict[str, tuple[Callable[[RunLog], object], S]] = {
    "claim": (lambda log: claim(log, log.replay(), Claimant(Owner("m2", "i2"), 5.0)), S.RUNNING),
    "release by the owner": (lambda log: takeover.release(log, runs.OWNER, 5.0, "Left"), S.RESUMABLE),
    "release from outside": (release_outside, S.RESUMABLE),
    "end from outside": (end_outside, S.CANCELED),
}


@pytest.mark.parametrize("case", WRITERS)
def test_each_writer_of_segments_writes_the_totals_after_it(log: RunLog, case: str) -> None:
    act, status = WRITERS[case]
    runs.append(log, [started("a")])
    act(log)
    invariants.check(log.store, "w")
    newest = log.newest_totals()
    assert newest is not None
    assert (newest[0], newest[1].status) == (2, status)


def test_a_claim_that_finishes_the_run_writes_its_totals() -> None:
    store = MemoryStore()
    created = runs.created(runs.graph("a"), max_resumes=0)
    registry.register(store, created)
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    runs.append(log, [started("a")])
    claim_with_no_resumes_left(log)
    newest = log.newest_totals()
    assert newest is not None
    assert (newest[1].status, newest[1].reason, newest[1].ended) == (S.FAILED, "ResumesExhausted", 5.0)
    invariants.check(store, "w")


def calls(store: InstrumentedStore) -> dict[str, int]:
    return {method: count.calls for method, count in store.counts().items() if count.calls}


def test_reading_totals_costs_one_list_and_one_get(log: RunLog) -> None:
    runs.append(log, [started("a")], [committed("a"), started("b")])
    log.write_snapshot(2, snapshot.compact(log.replay()))
    counted = InstrumentedStore(log.store)
    cheap = RunLog(counted, log.created)
    newest = cheap.newest_totals()
    assert newest is not None
    assert calls(counted) == {"list": 1, "get": 1}
    assert cheap.newest_totals(newest[0]) is None
    assert calls(counted) == {"list": 2, "get": 1}
    runs.append(log, [committed("b"), r.StatusChanged(S.SUCCESSFUL, 1, 3.0)])
    later = cheap.newest_totals(newest[0])
    assert later is not None
    assert (later[0], later[1].status) == (3, S.SUCCESSFUL)
    assert calls(counted) == {"list": 3, "get": 2}


def test_totals_of_a_run_without_segments_are_those_of_its_dag(log: RunLog) -> None:
    assert log.newest_totals() is None
    totals = reading.read_totals(log.store, "w")
    assert totals is not None
    assert (totals.steps, totals.epoch, totals.status) == ({P.READY: 1, P.WAITING: 1}, 1, S.RUNNING)


def test_totals_are_read_by_workflow_id_and_run_number(log: RunLog) -> None:
    runs.append(log, [started("a")])
    assert reading.read_totals(log.store, "w") == reading.read_totals(log.store, "w", 1) == totals_of(log.replay())


def test_there_are_no_totals_of_what_is_not_a_run(log: RunLog) -> None:
    assert reading.read_totals(log.store, "never used") is None
    assert reading.read_totals(log.store, "w", 2) is None
    requests.delete_run(log.store, "w", run_number=1, requester=PERSON)
    assert reading.read_totals(log.store, "w") is None


def test_a_run_deleted_while_its_totals_are_read_has_none(log: RunLog) -> None:
    runs.append(log, [started("a")])
    store = FailingStore(log.store)
    store.after_call(
        "list", log.paths.segments, lambda: requests.delete_run(log.store, "w", run_number=1, requester=PERSON)
    )
    with pytest.raises(SupersededError):
        RunLog(store, log.created).newest_totals()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("truncated", "the checksum of its [0-9]+ bytes does not match"),
        ("missing", "but the store lists it"),
        ("without totals", "its header has no totals"),
    ],
)
def test_damage_of_the_newest_segment_is_reported_with_its_key(log: RunLog, damage: str, why: str) -> None:
    runs.append(log, [started("a")])
    key = log.paths.segment(1)
    data = log.store.get(key)
    assert data is not None
    store = FailingStore(log.store)
    if damage == "truncated":
        log.store.overwrite(key, data[:-3])
    elif damage == "missing":
        store.after_call("list", log.paths.segments, lambda: log.store.delete(key))
    else:
        log.write_snapshot(1, [started("a")])
        without = log.store.get(log.paths.snapshot(1))
        assert without is not None
        log.store.overwrite(key, without)
    with pytest.raises(CorruptLogError, match=f"{key} .*{why}") as caught:
        RunLog(store, log.created).newest_totals()
    assert caught.value.fields == ({"key": key, "missing": True} if damage == "missing" else {"key": key})
