"""Requests and collections during which another process acts, before each single call of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest

from tests.support import invariants, runs
from tests.support.claims import state_of
from tests.support.interleaving import InterleavedStore
from tests.support.managers import AFTER_HEARTBEAT_TIMEOUT, Clock
from tests.support.stored import in_memory
from workflow import garbage, requests
from workflow.errors import OwnershipError, WorkflowConflictError
from workflow.log import index, keys, registry
from workflow.log.claim import Claimant, claim
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.requests import Requester
from workflow.store.port import Store

S = WorkflowStatus
DAG = runs.graph("a b:a")
A, B = (Owner(f"manager-{uid}", "i1", f"address-{uid}", uid, 1) for uid in "AB")
MORE_CALLS = 100
"""More calls of the store than any act in this module makes."""

BEFORE: dict[str, list[r.Record]] = {
    "its owner is lost": [runs.started("a")],
    "released": [r.StatusChanged(S.RESUMABLE, 1, 2.0)],
    "failed": [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 2.0)],
}


def a_run(store: Store, records: list[r.Record], run_number: int = 1, owner: Owner = A) -> RunLog:
    """Store a run with an index entry for its state."""
    created = runs.created(DAG, run_number=run_number, run_uuid=f"run-{run_number}", owner=owner)
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    index.set_status(store, "w", S.RUNNING, replaces=())
    assert registry.register(store, created).created
    runs.append(log, *([records] if records else []))
    return log


def claimed_by(store: Store, owner: Owner) -> bool:
    """Claim the run as a manager does; return whether it was claimed."""
    store.overwrite(keys.heartbeat(owner.manager), b"")
    created = registry.read_entry(store, "w", 1)
    assert isinstance(created, r.Created)
    log = RunLog(store, created)
    with contextlib.suppress(OwnershipError, WorkflowConflictError):
        registry.check_current(store, created)
        state = log.replay()
        failure = state.terminal[0] if state.terminal is not None else -1
        claim(log, state, Claimant(owner, 3.0, retry_failed=failure))
        index.update(log, state, index.LIVE, replaces=index.CLAIMABLE)
        return True
    return False


def end(store: Store, requester: Requester, status: WorkflowStatus = S.CANCELED) -> None:
    requests.end_run(store, "w", run_number=1, status=status, reason="Asked", message="asked to", requester=requester)


ACTS: dict[str, Callable[[Store, Requester], object]] = {
    "end": end,
    "release": lambda store, requester: requests.release_run(
        store, "w", run_number=1, requester=requester, reason="Suspended"
    ),
    "delete": lambda store, requester: requests.delete_run(store, "w", run_number=1, requester=requester),
    "collect": lambda store, requester: garbage.collect(store, grace=0.0),
}


def interrupted(store: InterleavedStore, calls: int, rival: Callable[[], object], act: Callable[[], object]) -> bool:
    """Act, and let the rival act before one call. Return False if there were not so many calls."""
    store.interrupt(calls, rival)
    with contextlib.suppress(OwnershipError, WorkflowConflictError):
        act()
    return store.interrupted


@pytest.mark.parametrize("uid", ["A", ""], ids=["object A", "a user"])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", ACTS)
def test_no_act_touches_a_run_that_object_b_claimed(name: str, before: str, uid: str) -> None:
    results = []
    for calls in range(MORE_CALLS):
        clock = Clock()
        store = InterleavedStore(clock)
        a_run(store, BEFORE[before])
        clock.now += AFTER_HEARTBEAT_TIMEOUT
        kept: dict[str, bytes] = {}

        def rival(store: Store = store, kept: dict[str, bytes] = kept) -> None:
            if claimed_by(store, B):
                kept.update(in_memory(store, keys.runs("w")))

        if not interrupted(store, calls, rival, partial(ACTS[name], store, Requester(uid, 1, "ns/a"))):
            break
        results.append(bool(kept))
        if kept:
            state = state_of(store)
            assert (state.owner, state.status, state.is_finished) == (B, S.RUNNING, False), f"before call {calls}"
            assert kept.items() <= in_memory(store, keys.runs("w")).items()
            assert registry.latest_run_number(store, "w") == 1
            assert S.RUNNING in indexed(store)
            invariants.check(store, "w")
    assert any(results), "object B could always claim at the first call"


def indexed(store: Store) -> set[WorkflowStatus]:
    """Return the statuses under which the id is listed."""
    return {status for status in S if "w" in index.list_ids(store, status)}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", ACTS)
def test_no_act_on_a_deleted_run_touches_the_next_run(name: str, before: str) -> None:
    for calls in range(MORE_CALLS):
        clock = Clock()
        store = InterleavedStore(clock)
        a_run(store, BEFORE[before])
        clock.now += AFTER_HEARTBEAT_TIMEOUT
        kept: dict[str, bytes] = {}

        def rival(store: Store = store, kept: dict[str, bytes] = kept) -> None:
            requests.delete_run(store, "w", run_number=1, requester=Requester("", 0, "rival"))
            next_number = registry.latest_run_number(store, "w") + 1
            store.overwrite(keys.heartbeat(B.manager), b"")
            kept.update(in_memory(store, a_run(store, [runs.started("a")], next_number, B).paths.folder))

        if not interrupted(store, calls, rival, partial(ACTS[name], store, Requester("A", 1, "ns/a"))):
            break
        state = state_of(store, run_number=registry.latest_run_number(store, "w"))
        assert (state.created.run_number, state.owner, state.is_finished) == (3, B, False), f"before call {calls}"
        assert kept == in_memory(store, state_folder(state))
        assert S.RUNNING in indexed(store), f"before call {calls}"
    assert calls > 3


@pytest.mark.parametrize("before", BEFORE)
def test_two_deletions_of_one_run_both_succeed(before: str) -> None:
    for calls in range(MORE_CALLS):
        clock = Clock()
        store = InterleavedStore(clock)
        a_run(store, BEFORE[before])
        clock.now += AFTER_HEARTBEAT_TIMEOUT
        store.interrupt(calls, partial(ACTS["delete"], store, Requester("", 0, "rival")))
        ACTS["delete"](store, Requester("A", 1, "ns/a"))
        if not store.interrupted:
            break
        assert not [key for key in in_memory(store) if "/runs/" in key or "index/" in key], f"before call {calls}"
        assert registry.latest_run_number(store, "w") == 2
    assert calls > 3


def state_folder(state: RunState) -> str:
    return keys.RunPaths("w", state.created.run_number, state.created.run_uuid).folder
