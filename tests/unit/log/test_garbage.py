"""What a collection removes, and above all what it does not: on a memory store, in the order of its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.support import runs
from tests.support.managers import Clock
from tests.support.stored import in_memory
from workflow import requests
from workflow.errors import InvalidInputError, StoreUnavailableError
from workflow.garbage import DAY, Collected, Fate, collect, fate
from workflow.log import index, keys, owned, registry
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.owned import OwnedRun
from workflow.log.registry import RegistryEntry
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.status import WorkflowStatus
from workflow.model.totals import totals_of
from workflow.reading import read_run
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.store.port import Data, ObjectInfo, Store

T = TypeVar("T")
S = WorkflowStatus
PERSON = Requester("", 0, "me")
DAG = runs.graph("a b:a")
MINE, OTHER = runs.created(DAG), runs.created(DAG, run_uuid="other")
LONG = "a pipeline of the team " * 20

LIVE: list[r.Record] = [runs.started("a")]
DONE: list[r.Record] = [runs.committed("a"), runs.committed("b"), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)]
BROKE: list[r.Record] = [
    runs.failed("a"),
    r.StepCanceled("b", 1, "a failed"),
    r.StatusChanged(S.FAILED, 1, 1.0, "StepFailed"),
]


def tombstone(reason: str, run_number: int = 1) -> r.Tombstone:
    return r.Tombstone("w", run_number, S.CANCELED, reason, 1.0)


@pytest.mark.parametrize(
    ("run_number", "highest", "named", "expected"),
    [
        pytest.param(1, 1, MINE, Fate.KEEP, id="the run that the id names"),
        pytest.param(1, 1, OTHER, Fate.REMOVE, id="another won the name"),
        pytest.param(1, 1, tombstone("Canceled"), Fate.REMOVE, id="a tombstone won the name"),
        pytest.param(1, 1, tombstone("Abandoned"), Fate.REMOVE, id="forbidden by an earlier collection"),
        pytest.param(1, 2, tombstone("Deleted", 2), Fate.REMOVE, id="deleted"),
        pytest.param(1, 2, runs.created(DAG, run_number=2), Fate.REMOVE, id="replaced"),
        pytest.param(1, 0, None, Fate.FORBID, id="begun and not made"),
        pytest.param(2, 1, tombstone("Deleted"), Fate.FORBID, id="begun behind a deleted run"),
        pytest.param(2, 1, tombstone("Abandoned"), Fate.FORBID, id="begun behind one that was forbidden"),
        pytest.param(2, 1, MINE, Fate.KEEP, id="a tombstone would hide the run below"),
        pytest.param(2, 1, tombstone("Canceled"), Fate.KEEP, id="a tombstone would hide why there is no run"),
        pytest.param(3, 1, tombstone("Deleted"), Fate.KEEP, id="a name between is free"),
    ],
)
def test_the_fate_of_a_folder(run_number: int, highest: int, named: RegistryEntry | None, expected: Fate) -> None:
    assert fate(run_number, "run-1", highest, named) is expected


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


def make(store: Store, *segments: list[r.Record], workflow_id: str = "w", run_number: int = 1) -> RunLog:
    """A run as its manager m1 leaves it: its hints, its name, its function and its log."""
    created = runs.created(DAG, workflow_id, run_number, f"{workflow_id}-{run_number}")
    note(store, created)
    index.set_status(store, workflow_id, S.RUNNING, replaces=())
    assert registry.register(store, created).entry == created
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    for records in segments:
        runs.append(log, records)
        if isinstance(records[-1], r.StatusChanged):
            index.set_status(store, workflow_id, records[-1].status, replaces=(S.RUNNING,))
    return log


def note(store: Store, created: r.Created, manager: str = "m1") -> None:
    owned.add(store, manager, OwnedRun(created.workflow_id, created.run_number, created.run_uuid))


def begin(store: Store, workflow_id: str = "w", run_number: int = 1, run_uuid: str = "begun") -> None:
    """What a driver stores before its run is made."""
    Blobs(store, RunPaths(workflow_id, run_number, run_uuid)).put(b"a function")


def keys_of(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def changes(store: MemoryStore, clock: Clock, act: Callable[[], object]) -> tuple[set[str], set[str]]:
    """What an act a day and a bit later removes, and adds; it changes nothing else."""
    clock.now += DAY + 1
    before = in_memory(store)
    act()
    behind = in_memory(store)
    assert {key: behind[key] for key in before if key in behind} == {
        key: data for key, data in before.items() if key in behind
    }
    return set(before) - set(behind), set(behind) - set(before)


# --- run folders ---


def test_a_run_that_is_named_loses_nothing_however_old(store: MemoryStore, clock: Clock) -> None:
    make(store, LIVE)
    make(store, DONE, workflow_id="done")
    make(store, BROKE, workflow_id="broke")
    gone, new = changes(store, clock, lambda: collect(store))
    assert (gone, new) == ({"owned/m1/done-1"}, set())


def test_what_a_late_writer_left_of_a_deleted_run_goes(store: MemoryStore, clock: Clock) -> None:
    late = make(store, LIVE)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    late.store_segment(late.seal(3, [runs.committed("a")], totals_of(late.begin())))
    late.blobs.put(b"a value")
    make(store, DONE, run_number=3)
    left = set(keys_of(store, late.paths.folder))
    assert len(left) == 2
    gone, new = changes(store, clock, lambda: collect(store))
    assert (gone, new) == ({*left, "owned/m1/w-1", "owned/m1/w-3"}, set())


def test_a_run_that_was_begun_and_never_made_is_forbidden_first(store: MemoryStore, clock: Clock) -> None:
    begin(store)
    clock.now += DAY + 1
    collected = collect(store)
    assert (collected.runs, collected.objects, collected.forbidden) == (1, 1, 1)
    assert keys_of(store) == [keys.registry_entry("w", 1)]
    there = registry.register(store, runs.created(DAG, run_uuid="begun")).entry
    assert isinstance(there, r.Tombstone)
    assert there.reason == "Abandoned"


class WhileForbidding(MemoryStore):
    """A store in which somebody is faster when a name is written."""

    faster: Callable[[], object] | None = None

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        if "/registry/" in key and self.faster is not None:
            act, self.faster = self.faster, None
            act()
        return super().create(key, data, put_id)


@pytest.mark.parametrize("uuid", ["begun", "other"])
def test_the_driver_that_makes_its_run_at_that_moment_wins(clock: Clock, uuid: str) -> None:
    store = WhileForbidding(clock=clock)
    begin(store)
    clock.now += DAY + 1
    store.faster = lambda: registry.register(store, runs.created(DAG, run_uuid=uuid))
    collected = collect(store)
    named = registry.current_entry(store, "w")
    assert isinstance(named, r.Created)
    assert named.run_uuid == uuid
    assert collected.forbidden == 0
    assert bool(keys_of(store, keys.runs("w"))) is (uuid == "begun")


def test_who_lost_the_name_loses_the_folder(store: MemoryStore, clock: Clock) -> None:
    make(store, LIVE)
    begin(store, run_uuid="slower")
    gone, new = changes(store, clock, lambda: collect(store))
    assert all(key.startswith("workflows/w/runs/1-slower/") for key in gone)
    assert len(gone) == 1
    assert not new


def test_what_was_begun_above_a_run_waits_until_that_is_deleted(store: MemoryStore, clock: Clock) -> None:
    make(store, DONE)
    begin(store, run_number=2)
    gone, new = changes(store, clock, lambda: collect(store))
    assert (gone, new) == ({"owned/m1/w-1"}, set())
    view = read_run(store, "w")
    assert view is not None
    assert view.status is S.SUCCESSFUL
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    collect(store)
    assert not keys_of(store, keys.runs("w"))


def test_a_replaced_run_goes_and_its_readers_are_told(store: MemoryStore, clock: Clock) -> None:
    make(store, LIVE)
    make(store, LIVE, run_number=2)
    clock.now += DAY + 1
    collected = collect(store)
    assert collected.runs == 1
    assert not keys_of(store, f"{keys.runs('w')}1-")
    first, second = read_run(store, "w", 1), read_run(store, "w", 2)
    assert first is not None
    assert (first.tombstone, first.reason) == (True, "Abandoned")
    assert second is not None
    assert second.status is S.RUNNING


def test_within_the_grace_time_nothing_is_touched(store: MemoryStore, clock: Clock) -> None:
    done = make(store, DONE, workflow_id="done")
    owned.remove(store, "m1", "done-1")
    begin(store)
    clock.now += DAY + 1
    store.create(RunPaths("w", 1, "begun").blob("f" * 64), b"another function", "1")
    begin(store, run_uuid="young")
    note(store, runs.created(DAG, workflow_id="noted"))
    store.create(done.paths.request("asked"), b"{}", "1")
    store.create(keys.notification("done-1", "asked"), b"", "1")
    before = keys_of(store)
    assert collect(store) == Collected()
    assert keys_of(store) == before


def test_a_grace_in_the_future_is_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidInputError, match="-1 seconds"):
        collect(store, grace=-1)


@pytest.mark.parametrize("known_by", ["name", "index", "nothing"])
def test_a_long_id_is_known_by_its_name_or_by_the_index(store: MemoryStore, clock: Clock, known_by: str) -> None:
    begin(store, LONG)
    if known_by == "name":
        registry.register(store, runs.created(DAG, LONG))
    if known_by == "index":
        index.set_status(store, LONG, S.RUNNING, replaces=())
    clock.now += DAY + 1
    collected = collect(store)
    left = keys_of(store, keys.runs(LONG))
    if known_by == "nothing":
        assert len(left) == 1
        assert "no workflow id is known" in collected.left[0]
    else:
        assert (collected.runs, left, collected.left) == (1, [], [])


def test_what_is_damaged_or_strange_is_left_and_keeps_nothing_else(store: MemoryStore, clock: Clock) -> None:
    begin(store, "a")
    store.create(keys.registry_entry("a", 1), b"no name at all", "1")
    begin(store, "b")
    store.create("owned/m1/run-1", b"no run", "1")
    store.create("workflows/b/notes.txt", b"somebody's", "1")
    store.create("workflows/notes.txt", b"somebody's", "1")
    store.create("workflows/a b/runs/1-x/log/1", b"no part of ours", "1")
    clock.now += DAY + 1
    collected = collect(store)
    assert len(collected.left) == 3
    assert [keys.registry_entry("a", 1) in text for text in collected.left] == [False, True, False]
    assert collected.runs == 1
    assert not keys_of(store, keys.runs("b"))
    assert len(keys_of(store)) == 7


# --- managers, requests and bells ---


@pytest.mark.parametrize(
    ("records", "stays"), [(LIVE, True), (BROKE, True), (DONE, False)], ids=["live", "failed", "done"]
)
def test_a_manager_is_remembered_while_it_may_own_a_run(
    store: MemoryStore, clock: Clock, records: list[r.Record], stays: bool
) -> None:
    make(store, records)
    store.overwrite(keys.heartbeat("m1"), b"")
    clock.now += DAY + 1
    store.overwrite(keys.heartbeat("m2"), b"")
    collect(store)
    assert keys_of(store, keys.OWNED) == (["owned/m1/w-1"] if stays else [])
    assert keys_of(store, keys.MANAGERS) == [*(["managers/m1"] if stays else []), "managers/m2"]


def test_a_heartbeat_that_is_not_silent_stays_whatever_the_grace(store: MemoryStore, clock: Clock) -> None:
    store.overwrite(keys.heartbeat("m1"), b"")
    clock.now += 30
    assert collect(store, grace=0).managers == 0
    clock.now += 1
    assert collect(store, grace=0).managers == 1


def test_a_run_that_a_manager_noted_and_never_made_is_forbidden(store: MemoryStore, clock: Clock) -> None:
    note(store, runs.created(DAG))
    clock.now += DAY + 1
    collected = collect(store)
    assert (collected.forbidden, collected.owned) == (1, 1)
    assert keys_of(store) == [keys.registry_entry("w", 1)]


@pytest.mark.parametrize(
    ("records", "stays"), [(LIVE, True), (BROKE, False), (DONE, False)], ids=["live", "failed", "done"]
)
def test_a_request_stays_while_its_run_can_take_it(
    store: MemoryStore, clock: Clock, records: list[r.Record], stays: bool
) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    request = requests.request_cancel(store, view, uid="", reason="")
    runs.append(log, records)  # where this is the end: its manager died behind it, before it looked into the inbox
    clock.now += DAY + 1
    assert collect(store).requests == (0 if stays else 1)
    assert log.inbox() == ([request] if stays else [])
    assert bool(keys_of(store, keys.NOTIFICATIONS)) is stays


def test_a_bell_without_its_request_goes(store: MemoryStore, clock: Clock) -> None:
    make(store, LIVE)
    store.create(keys.notification("w-1", "withdrawn"), b"", "1")
    clock.now += DAY + 1
    store.create(keys.notification("w-1", "young"), b"", "2")
    assert collect(store).bells == 1
    assert keys_of(store, keys.NOTIFICATIONS) == [keys.notification("w-1", "young")]


# --- as a whole ---


def clutter(store: Store) -> None:
    """All kinds of it, beside three runs that stay."""
    for workflow_id, records in {"live": LIVE, "done": DONE, "broke": BROKE}.items():
        make(store, records, workflow_id=workflow_id)
    make(store, LIVE, workflow_id="deleted")
    requests.delete_run(store, "deleted", run_number=1, requester=PERSON)
    begin(store, "deleted", run_uuid="deleted-1")
    begin(store, "deleted", run_number=3)
    begin(store, "never", run_number=1)
    begin(store, "done", run_uuid="slower")
    store.create(RunPaths("never", 1, "begun").request("asked"), b"{}", "1")
    store.create(keys.notification("begun", "asked"), b"", "1")
    store.create(keys.notification("nobody", "asked"), b"", "1")
    index.set_status(store, "broke", S.SUCCESSFUL, replaces=())
    index.set_status(store, "done", S.RUNNING, replaces=S)
    for workflow_id in ("deleted", "never"):
        index.set_status(store, workflow_id, S.RUNNING, replaces=())
        index.set_status(store, workflow_id, S.FAILED, replaces=())
    for manager in ("m0", "m1"):
        store.overwrite(keys.heartbeat(manager), b"")


def test_a_second_collection_finds_nothing(store: MemoryStore, clock: Clock) -> None:
    clutter(store)
    clock.now += DAY + 1
    first = collect(store)
    assert (first.runs, first.forbidden, first.bells, first.managers, first.index) == (4, 2, 1, 1, 6)
    assert collect(store) == Collected()


class BreakingOff(MemoryStore):
    """A store that does not answer one call: the one behind so many."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.calls, self.unanswered, self.arrives = 0, -1, False

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        return self._call(lambda: super(BreakingOff, self).create(key, data, put_id))

    def get(self, key: str) -> bytes | None:
        """See the port."""
        return self._call(lambda: super(BreakingOff, self).get(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port."""
        for info in super().list(prefix, start_after):
            yield self._call(lambda info=info: info)  # type: ignore[misc]

    def delete(self, key: str) -> None:
        """See the port."""
        self._call(lambda: super(BreakingOff, self).delete(key))

    def _call(self, call: Callable[[], T]) -> T:
        self.calls += 1
        if self.calls != self.unanswered:
            return call()
        if self.arrives:
            call()
        raise StoreUnavailableError("told not to answer")


def cluttered(clock: Clock) -> BreakingOff:
    store = BreakingOff(clock)
    clutter(store)
    clock.now += DAY + 1
    return store


@pytest.mark.parametrize("arrives", [False, True], ids=["calls are lost", "answers are lost"])
def test_one_that_breaks_off_anywhere_is_taken_up_by_the_next(clock: Clock, arrives: bool) -> None:
    whole = cluttered(clock)
    began = whole.calls
    collect(whole)
    assert whole.calls > began + 50
    for unanswered in range(began + 1, whole.calls + 1):
        store = cluttered(clock)
        store.unanswered, store.arrives = unanswered, arrives
        with pytest.raises(StoreUnavailableError):
            collect(store)
        collect(store)
        assert keys_of(store) == keys_of(whole), unanswered
