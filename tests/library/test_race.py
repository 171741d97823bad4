"""Ownership of runs on a real Ray: concurrent claims, takeovers, and runs without a live owner."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants, manager_actors
from tests.support.marks import Marks
from workflow import WorkflowStatus
from workflow.engine.driver.actor import ManagerActor
from workflow.engine.driver.client import Client, RunOptions
from workflow.engine.driver.discovery import CALLS
from workflow.engine.messages import RunAddress
from workflow.engine.owner.manager import ClaimRequest
from workflow.errors import WorkflowCancellationError, WorkflowConflictError, WorkflowInUseError
from workflow.log import index, registry
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")
ROUNDS = 5


@workflow.step
def counted(marks: Marks) -> str:
    marks.started("counted")
    return "done"


@workflow.step
def gated(marks: Marks, value: str = "done") -> str:
    marks.started("gated")
    marks.pass_gate("gated")
    return value


class RivalManager(ManagerActor):
    """A manager that leaves at the request of a test. Its runs are RESUMABLE then."""

    async def leave(self) -> None:
        await self._on_loop(self._manager.leave())


def manager(storage: str) -> Any:
    """Create a second manager, next to the one that `run` would find."""
    name = f"manager-rival-{uuid.uuid4().hex[:8]}"
    return manager_actors.make(RivalManager, storage, name, max_concurrency=CALLS)


def orphaned(store: Store, workflow_id: str, marks: Marks) -> Created:
    """Create a run whose owner has no heartbeat."""
    created = Client(store)._created(counted.step(marks), workflow_id, RunOptions(), 1)
    index.set_status(store, workflow_id, WorkflowStatus.RUNNING, replaces=())
    registered = registry.register(store, _with_dead_owner(created)).entry
    assert isinstance(registered, Created)
    return registered


def released(store: Store, workflow_id: str, marks: Marks) -> None:
    """Create a run whose owner committed the step `first` and left while the step `second` was running."""
    owner = manager(store.url)
    second = gated.options(name="second").step(marks, counted.options(name="first").step(marks))
    ray.get(owner.start.remote(Client(store)._created(second, workflow_id, RunOptions(), 1)))
    marks.wait_started("gated")
    ray.get(owner.leave.remote())
    ray.kill(owner, no_restart=True)


def _with_dead_owner(created: Created) -> Created:
    return dataclasses.replace(created, owner=Owner(manager="gone", incarnation="gone"))


def test_one_of_two_concurrent_claims_wins(storage: str, store: Store, tmp_path: Path) -> None:
    url = store.url
    rivals = [manager(url), manager(url)]
    ray.get([rival.ping.remote() for rival in rivals])
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        marks, wid = Marks(str(folder)), f"race-{number}"
        orphaned(store, wid, marks)
        claims = [rival.claim.remote(ClaimRequest(wid, 1)) for rival in rivals]
        results = [_result(each) for each in claims]
        assert results.count("claimed") == 1, results
        assert ray.get(workflow.get_output(wid)) == "done"
        assert marks.starts() == {"counted": 1}
        invariants.check(store, wid)
    for rival in rivals:
        ray.kill(rival, no_restart=True)


def _result(claim: Any) -> str:
    try:
        ray.get(claim)
    except WorkflowInUseError:
        return "refused"
    except ray.exceptions.RayTaskError as error:
        return repr(error)
    return "claimed"


def test_concurrent_starts_under_one_id_share_one_run(marks: Marks, wid: str, store: Store) -> None:
    @ray.remote
    def start() -> Any:
        return counted.step(marks).run(wid)

    assert ray.get([start.remote() for _ in range(4)]) == ["done"] * 4
    assert marks.starts() == {"counted": 1}
    assert registry.latest_run_number(store, wid) == 1
    invariants.check(store, wid)


def test_run_with_a_live_owner_needs_take_over_to_be_resumed(store: Store, marks: Marks, wid: str) -> None:
    owner = manager(store.url)
    created = Client(store)._created(gated.step(marks), wid, RunOptions(), 1)
    ray.get(owner.start.remote(created))
    marks.wait_started("gated")
    owner_now = ray.get(owner.ping.remote())
    with pytest.raises(
        WorkflowInUseError, match=f"{wid}.*manager {owner_now.address}.* runs it.*take_over=True if you know"
    ):
        workflow.resume(wid)

    taken = workflow.resume(wid, take_over=True)
    marks.wait_started("gated", 2)
    follows = owner.wait.remote(RunAddress(store.url, wid, 1, created.run_uuid))
    marks.open("gated")
    assert ray.get(taken) == "done"
    assert str(ray.get(follows).status) == "SUCCESSFUL"  # the old owner is fenced and follows the log of the new one
    assert ray.get(workflow.get_output(wid)) == "done"
    invariants.check(store, wid)
    ray.kill(owner, no_restart=True)


def test_resumable_run_continues_with_run_or_resume(store: Store, tmp_path: Path) -> None:
    for how in ("run", "resume", "async"):
        (tmp_path / how).mkdir()
        marks, wid = Marks(str(tmp_path / how)), f"orphan-{how}"
        orphaned(store, wid, marks)
        assert workflow.get_status(wid) is WorkflowStatus.RESUMABLE
        assert (wid, WorkflowStatus.RESUMABLE) in workflow.list_all("RESUMABLE")
        if how == "run":
            assert counted.step(marks).run(wid) == "done"
        elif how == "resume":
            assert ray.get(workflow.resume(wid)) == "done"
        else:
            assert ray.get(counted.step(marks).run_async(wid)) == "done"
        assert workflow.get_status(wid) is WorkflowStatus.SUCCESSFUL
        assert marks.starts() == {"counted": 1}


def test_cancel_of_a_resumable_run_executes_no_step(store: Store, marks: Marks, wid: str) -> None:
    orphaned(store, wid, marks)
    workflow.cancel(wid)
    assert workflow.get_status(wid) is WorkflowStatus.CANCELED
    with pytest.raises(WorkflowCancellationError):
        counted.step(marks).run(wid)
    assert marks.order() == []
    workflow.delete(wid)
    assert counted.step(marks).run(wid) == "done"
    invariants.check(store, wid, 3)


OUTPUT_CALLS = {
    "get_output": lambda wid: ray.get(workflow.get_output(wid), timeout=60),
    "get_output of a step": lambda wid: ray.get(workflow.get_output(wid, name="second"), timeout=60),
}


def test_get_output_of_a_resumable_run_is_refused(store: Store, marks: Marks, wid: str) -> None:
    released(store, wid, marks)
    marks.open("gated")
    before = invariants.log_bytes(store, wid)
    for call in OUTPUT_CALLS.values():
        with pytest.raises(
            WorkflowConflictError, match=rf"'{wid}' is RESUMABLE: no manager owns it.*call workflow\.resume\("
        ):
            call(wid)
    assert invariants.log_bytes(store, wid) == before
    assert workflow.get_status(wid) is WorkflowStatus.RESUMABLE
    assert marks.starts() == {"counted": 1, "gated": 1}

    assert ray.get(workflow.resume(wid)) == "done"
    assert [call(wid) for call in OUTPUT_CALLS.values()] == ["done"] * len(OUTPUT_CALLS)
    assert marks.starts() == {"counted": 1, "gated": 2}
    invariants.check(store, wid)


def test_get_output_of_a_committed_step_works_if_resumable(store: Store, marks: Marks, wid: str) -> None:
    released(store, wid, marks)
    assert ray.get(workflow.get_output(wid, name="first")) == "done"
    assert workflow.get_status(wid) is WorkflowStatus.RESUMABLE
    assert marks.starts() == {"counted": 1, "gated": 1}
