"""The manager actor on a real Ray: it exits when idle, is created again, and tolerates outages of the store."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
import ray

import workflow
from tests.support import manager_actors
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.engine.driver import actor, discovery
from workflow.engine.driver.actor import ManagerActor
from workflow.engine.owner.manager import ClaimRequest
from workflow.engine.worker import execution, run_values
from workflow.errors import StoreUnavailableError, UnavailableError
from workflow.log.blobs import INLINE_LIMIT
from workflow.store import Store
from workflow.testing.failing import FailingStore

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def one() -> int:
    return 1


class ImpatientManager(ManagerActor):
    """Exits half a second after its last run."""

    def __init__(self, *arguments: str) -> None:
        actor.IDLE_EXIT = 0.5
        super().__init__(*arguments)


def fail_heartbeats(store_url: str, method: str, times: int) -> None:
    """In the process of a manager: let calls of a method fail this many times for its heartbeat."""
    shaky = FailingStore(actor.shared_store(store_url))
    shaky.fail(method, key="managers/", times=times)
    actor.shared_store = lambda url: shaky  # type: ignore[assignment]


class StuckManager(ImpatientManager):
    """A manager that cannot remove its heartbeat."""

    def __init__(self, store_url: str, *arguments: str) -> None:
        fail_heartbeats(store_url, "delete", 1_000)
        super().__init__(store_url, *arguments)


class UnluckyManager(ManagerActor):
    """A manager whose first heartbeats fail."""

    def __init__(self, store_url: str, *arguments: str) -> None:
        fail_heartbeats(store_url, "overwrite", 2)
        super().__init__(store_url, *arguments)


def make(store: Store, name: str, kind: type[ManagerActor] = ImpatientManager) -> Any:
    return manager_actors.make(kind, store.url, name, max_restarts=-1)


def test_idle_manager_exits_and_removes_its_heartbeat(store: Store) -> None:
    name = f"manager-impatient-{uuid.uuid4().hex[:6]}"
    impatient = make(store, name)
    me = ray.get(impatient.ping.remote())
    until(lambda: discovery.find(name) is None)
    assert store.get(f"managers/{me.manager}") is None
    with pytest.raises((ray.exceptions.RayActorError, UnavailableError)):
        ray.get(impatient.claim.remote(ClaimRequest("unknown", 1)))


def test_idle_manager_exits_even_if_its_heartbeat_remains(store: Store) -> None:
    name = f"manager-stuck-{uuid.uuid4().hex[:6]}"
    me = ray.get(make(store, name, StuckManager).ping.remote())
    until(lambda: discovery.find(name) is None)
    assert store.get(f"managers/{me.manager}") is not None


def test_manager_started_during_an_outage_works_after_it(store: Store) -> None:
    name = f"manager-unlucky-{uuid.uuid4().hex[:6]}"
    unlucky = make(store, name, UnluckyManager)
    me = ray.get(unlucky.ping.remote())
    until(lambda: store.get(f"managers/{me.manager}") is not None)
    ray.kill(unlucky, no_restart=True)


def test_run_started_while_the_manager_exits_uses_the_next_one(store: Store) -> None:
    name = f"manager-{discovery.fingerprint(store.url)}"
    manager_actors.end(name)
    make(store, name)
    for _ in range(5):
        assert one.step().run() == 1
    until(lambda: discovery.find(name) is None)
    assert one.step().run() == 1


def test_step_retries_storing_its_value_without_running_again(marks: Marks, wid: str, store: Store) -> None:
    """Ray itself would give up after four attempts. A longer outage of the store does not fail the step either."""
    url = store.url

    @workflow.step
    def unlucky(marks: Marks) -> str:
        marks.started("unlucky")
        whole = run_values.shared_store
        shaky = FailingStore(whole(url))
        shaky.fail("create", key="/blobs/", times=6)
        # In this worker, from now on.
        run_values.shared_store = lambda asked: shaky if asked == url else whole(asked)  # type: ignore[assignment]
        execution.STORE_PAUSE = 0.01
        return "x" * 2 * INLINE_LIMIT

    assert unlucky.step(marks).run(wid) == "x" * 2 * INLINE_LIMIT
    assert marks.starts() == {"unlucky": 1}


def test_step_that_raises_store_unavailable_fails(marks: Marks, wid: str) -> None:
    @workflow.step(max_retries=1)
    def unlucky(marks: Marks) -> str:
        marks.started("unlucky")
        raise StoreUnavailableError("a store of the user")

    with pytest.raises(StoreUnavailableError, match="a store of the user"):
        unlucky.step(marks).run(wid)
    assert marks.starts() == {"unlucky": 1}


def test_step_that_raises_cancelled_error_fails(marks: Marks, wid: str) -> None:
    @workflow.step(max_retries=1)
    async def unlucky(marks: Marks) -> str:
        marks.started("unlucky")
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="CancelledError"):
        unlucky.step(marks).run(wid)
    assert marks.starts() == {"unlucky": 1}
