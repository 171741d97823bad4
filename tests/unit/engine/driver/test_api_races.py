"""What users call without a cluster: cancel, delete and resume while another process claims the run."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import runs
from tests.support.claims import state_of
from tests.support.interleaving import InterleavedStore
from tests.support.managers import AFTER_HEARTBEAT_TIMEOUT, Clock
from workflow import api, inspection
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle
from workflow.engine.messages import ClaimRequest, RunAddress
from workflow.errors import WorkflowConflictError, WorkflowNotFoundError, WorkflowRunningError
from workflow.log import index, keys, liveness, registry
from workflow.log.claim import Claimant, claim
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.store.port import Store

S = WorkflowStatus
RIVAL = Owner("rival", "i1", "manager-rival")
FAILED: list[r.Record] = [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 2.0)]
MORE_CALLS = 100


def a_run(store: Store, records: list[r.Record]) -> RunLog:
    created = runs.created(runs.graph("a b:a"))
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    index.set_status(store, "w", S.RUNNING, replaces=())
    registry.register(store, created)
    runs.append(log, *([records] if records else []))
    return log


def claim_with_rival(log: RunLog) -> None:
    """Claim the run with a manager that lives, if it is not canceled or deleted yet."""
    log.store.overwrite(keys.heartbeat(RIVAL.manager), b"")
    if registry.latest_run_number(log.store, "w") == 1 and (state := log.replay()).status is not S.CANCELED:
        claim(log, state, Claimant(RIVAL, 3.0, retry_failed=state.terminal[0] if state.terminal is not None else -1))


class OwnersCluster:
    """A client whose manager handles the requests to the run, as its living owner does."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        manager = SimpleNamespace(notify=SimpleNamespace(remote=lambda run_uuid: None))
        self._handle = RunHandle(manager, RunAddress(log.store.url, "w", 1, log.created.run_uuid))

    def find(self, workflow_id: str) -> r.Created:
        return self._log.created

    def observe(self, created: r.Created) -> RunHandle:
        return self._handle

    def wait(self, handle: RunHandle, *, resumes: bool) -> None:
        assert not resumes, "a call that cancels must not continue the run"
        state = self._log.replay()
        requests = self._log.inbox()
        assert state.is_finished or requests, "a living owner that was not asked to cancel never returns"
        if not state.is_finished:
            ended = r.StatusChanged(S.CANCELED, state.epoch, 4.0, "Canceled")
            self._log.append(state, [r.RequestHandled(requests[0], state.epoch, "canceled the run"), ended])


def user_of(monkeypatch: pytest.MonkeyPatch, log: RunLog) -> None:
    """Make the functions for users use this store."""
    monkeypatch.setattr(api, "store_in_use", lambda: log.store)
    monkeypatch.setattr(inspection, "store_in_use", lambda: log.store)
    monkeypatch.setattr(api, "client_in_use", lambda: OwnersCluster(log))


def test_cancel_succeeds_if_a_manager_claims_the_run_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    for calls in range(MORE_CALLS):
        clock = Clock()
        log = a_run(store := InterleavedStore(clock), [runs.started("a")])
        clock.now += AFTER_HEARTBEAT_TIMEOUT
        user_of(monkeypatch, log)
        store.interrupt(calls, lambda log=log: claim_with_rival(log))  # type: ignore[misc]
        api.cancel("w")
        if not store.interrupted:
            break
        assert log.replay().status is S.CANCELED, f"before call {calls}"
    assert calls > 5


@pytest.mark.parametrize("records", [FAILED, [r.StatusChanged(S.RESUMABLE, 1, 2.0)]], ids=["failed", "released"])
def test_delete_is_refused_if_a_manager_claims_the_run(
    monkeypatch: pytest.MonkeyPatch, records: list[r.Record]
) -> None:
    refused = []
    for calls in range(MORE_CALLS):
        log = a_run(store := InterleavedStore(Clock()), records)
        user_of(monkeypatch, log)
        store.interrupt(calls, lambda log=log: claim_with_rival(log))  # type: ignore[misc]
        with contextlib.suppress(WorkflowRunningError):
            api.delete("w")
        if registry.latest_run_number(store, "w") == 1:
            state = state_of(store)
            assert (state.owner, state.is_finished) == (RIVAL, False), f"before call {calls}"
            with pytest.raises(WorkflowRunningError, match=r"it is RUNNING; call workflow.cancel\('w'\) first"):
                api.delete("w")
            refused.append(calls)
        else:
            with pytest.raises(WorkflowNotFoundError):
                api.delete("w")
            assert not list(store.list(log.paths.folder)), f"before call {calls}"
        if not store.interrupted:
            break
    assert len(refused) > 3
    assert refused == list(range(len(refused))), "once the deletion has claimed the run, the rival comes too late"


# --- resume ---


@pytest.mark.parametrize(
    ("records", "take_over", "expected"),
    [
        ([], False, ClaimRequest("w", 1)),
        ([], True, ClaimRequest("w", 1, take_over=runs.OWNER)),
        (FAILED, False, ClaimRequest("w", 1, retry_failed=1)),
        (FAILED, True, ClaimRequest("w", 1, take_over=runs.OWNER, retry_failed=1)),
    ],
    ids=["running", "running, take over", "failed", "failed, take over"],
)
def test_resume_names_what_it_was_decided_against(
    monkeypatch: pytest.MonkeyPatch, records: list[r.Record], take_over: bool, expected: ClaimRequest
) -> None:
    store = InterleavedStore(Clock())
    a_run(store, records)
    client, sent = Client(store), []

    def call_manager(options: Any, method: str, argument: Any) -> tuple[Any, Any]:
        sent.append((method, argument))
        return None, None

    monkeypatch.setattr(client, "_call_manager", call_manager)
    client.resume("w", take_over=take_over)
    assert sent == [("claim", expected)]


def test_resume_of_a_run_that_ends_meanwhile_returns_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    store = InterleavedStore(Clock())
    a_run(store, FAILED)
    client = Client(store)

    def refuse(options: Any, method: str, argument: Any) -> tuple[Any, Any]:
        raise WorkflowConflictError("another process resumed it first")

    monkeypatch.setattr(client, "_call_manager", refuse)
    monkeypatch.setattr(discovery, "find_or_create", lambda url, unresponsive: "a manager that follows the run")
    handle = client.resume("w")
    assert (handle.manager, handle.run.run_uuid) == ("a manager that follows the run", "run-1")


def test_resume_all_decides_about_each_running_workflow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One is resumable, one is running here, and of two others the owner of one turns out to be lost."""
    store = MemoryStore("m")
    owners = {wid: Owner(f"m-{wid}", address=f"manager-{wid}") for wid in ("free", "here", "dead", "elsewhere")}
    for wid, owner in owners.items():
        created = runs.created(runs.graph("a"), workflow_id=wid, owner=owner)
        index.set_status(store, wid, S.RUNNING, replaces=())
        registry.register(store, created)
        RunLog(store, created).begin()
        if wid != "free":
            liveness.send_heartbeat(store, owner, 1)
    monkeypatch.setattr(api, "store_in_use", lambda: store)
    monkeypatch.setattr(inspection, "store_in_use", lambda: store)
    monkeypatch.setattr(api, "resume", lambda wid: f"reference of {wid}")
    monkeypatch.setattr(discovery, "find_owner", lambda owner: "manager" if owner == owners["here"] else None)
    watched: list[set[Owner]] = []

    def watch(store: Store, undecided: set[Owner]) -> set[Owner]:
        watched.append(undecided)
        return {owners["dead"]}

    monkeypatch.setattr(liveness, "watch", watch)
    assert api.resume_all() == [("dead", "reference of dead"), ("free", "reference of free")]
    assert watched == [{owners["dead"], owners["elsewhere"]}]
    assert "waits up to 30 s for a sign of life of the owners of 2 workflows: dead, elsewhere" in caplog.text
    assert "'elsewhere' is not resumed: it is running on manager manager-elsewhere" in caplog.text
