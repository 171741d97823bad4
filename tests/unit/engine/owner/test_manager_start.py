"""How a manager starts and leaves while its store is unavailable or refuses it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.support.claims import take_over
from tests.support.fake_runner import FakeRunner
from tests.support.managers import ManagerFixture, never_returns, new_run, start_run, with_timeout
from tests.support.waiting import eventually, until
from workflow.engine.driver import actor
from workflow.engine.driver.actor import ManagerActor
from workflow.engine.messages import RunAddress
from workflow.engine.owner.manager import ClaimRequest
from workflow.engine.owner.runtime import STORE_THREADS
from workflow.engine.worker import same_store
from workflow.errors import StoreRefusedError, StoreUnavailableError, UnavailableError
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

HEARTBEAT = "managers/m1"


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


async def run_of_a_failed_manager(fixture: ManagerFixture) -> Created:
    """Start a run and let the process of its manager fail."""
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    return created


@pytest.mark.parametrize("method", ["overwrite", "list", "get"])
async def test_manager_started_in_an_outage_recovers_its_runs(fixture: ManagerFixture, method: str) -> None:
    created = await run_of_a_failed_manager(fixture)
    fixture.store.fail(method, times=7)
    async with fixture.manager(incarnation="i2") as (manager, _):
        await eventually(lambda: manager.live or fixture.keys("index/SUCCESSFUL"))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_manager_stays_until_it_has_read_its_runs(fixture: ManagerFixture) -> None:
    await run_of_a_failed_manager(fixture)
    fixture.store.fail("list", key="owned/", times=1_000_000)
    async with fixture.manager(incarnation="i2") as (manager, _):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(manager.idle(0.0), 0.3)


async def test_manager_may_leave_if_the_store_refuses_it(fixture: ManagerFixture) -> None:
    fixture.store.fail("overwrite", times=1_000_000, error=StoreRefusedError("no such bucket"))
    async with fixture.manager() as (manager, _):
        with pytest.raises(StoreRefusedError, match="no such bucket"):
            await with_timeout(manager.start(new_run("a")))
        await with_timeout(manager.idle(0.0))


async def test_damaged_owned_key_does_not_stop_recovery(
    fixture: ManagerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    await run_of_a_failed_manager(fixture)
    fixture.inner.create("owned/m1/0", b"", "1")
    async with fixture.manager(incarnation="i2"):  # without a waiter, which would cause a recovery
        await eventually(lambda: fixture.keys("index/SUCCESSFUL"))
    assert "owned/m1/0 is damaged: it names no run" in caplog.text


async def test_no_run_is_owned_before_the_first_heartbeat(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        await start_run(fixture, manager, workflow_id="w")
        await fixture.abandon(manager)
    fixture.store.fail("overwrite", times=1_000_000)
    async with fixture.manager("m2") as (manager, _):
        with pytest.raises(StoreUnavailableError):
            await with_timeout(manager.start(new_run("a", workflow_id="other")))
        with pytest.raises(StoreUnavailableError):
            await with_timeout(manager.claim(take_over(fixture.inner)))
    assert fixture.keys("owned/m2/") == fixture.keys("workflows/other/") == []


class HeartbeatBlockingStore(MemoryStore):
    """A store that blocks each heartbeat until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__("blocking")
        self.gate = threading.Event()

    def overwrite(self, key: str, data: bytes) -> None:
        assert self.gate.wait(20)
        super().overwrite(key, data)


class RunnerWithoutRay(FakeRunner):
    """The part of RayRunner that the actor uses."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.leases = SimpleNamespace(waits=dict)

    async def begin(self) -> None:
        """Start nothing."""


async def stop(actor_object: ManagerActor) -> None:
    """Leave, and cancel all tasks on the event loop of the actor, which runs in its own thread."""
    await actor_object._manager.leave()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def test_actor_is_created_while_the_store_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray does not restart an actor whose constructor raised, and kills an actor that does not answer."""
    store = HeartbeatBlockingStore()
    monkeypatch.setattr(actor, "shared_store", lambda url: store)
    monkeypatch.setattr(actor, "RayRunner", RunnerWithoutRay)
    monkeypatch.setattr(same_store, "node_here", lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor=None))
    made = ManagerActor("memory://blocking", "m1", "manager-m1")
    assert asyncio.run(made.ping()).manager == "m1"
    assert store.get(HEARTBEAT) is None
    store.gate.set()
    until(lambda: store.get(HEARTBEAT) is not None)
    asyncio.run_coroutine_threadsafe(stop(made), made._loop).result(10)
    made._loop.call_soon_threadsafe(made._loop.stop)
    until(lambda: not made._loop.is_running())
    made._loop.close()


# --- leaving ---


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), StoreRefusedError("expired")], ids=repr)
async def test_manager_leaves_if_its_heartbeat_cannot_be_removed(
    fixture: ManagerFixture, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with fixture.manager() as (manager, _):
        fixture.store.fail("delete", key=HEARTBEAT, error=error)
        await with_timeout(manager.leave())
        assert fixture.keys("managers/") == [HEARTBEAT]
    assert "its heartbeat is not removed" in caplog.text


async def test_manager_that_left_refuses_every_call(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await manager.leave()
        address = fixture.address(created)
        for call in (
            manager.wait(address),
            manager.wait_or_resume(address),
            manager.notify(created.run_uuid),
            manager.start(new_run("b")),
            manager.claim(ClaimRequest("w", 1)),
        ):
            with pytest.raises(UnavailableError, match="leaving"):
                await with_timeout(call)


async def test_leaving_manager_ends_waits_for_runs_of_others(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (owner, _):
        created = await start_run(fixture, owner)
        async with fixture.manager("m2") as (manager, _):
            waiting = [
                asyncio.ensure_future(each(fixture.address(created))) for each in (manager.wait, manager.wait_or_resume)
            ]
            await asyncio.sleep(0.1)
            await manager.leave()
            for each in waiting:
                with pytest.raises(UnavailableError, match="leaving"):
                    await with_timeout(each)


@pytest.mark.parametrize("error", [None, OSError("the disk is gone")], ids=repr)
async def test_actor_process_exits_even_if_leave_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    ended: list[str] = []

    class Leaving:
        async def idle(self, seconds: float) -> None: ...

        async def leave(self) -> None:
            if error is not None:
                raise error

    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor="me"))
    monkeypatch.setattr(ray, "kill", lambda who, no_restart: ended.append(f"killed {who} for good: {no_restart}"))
    monkeypatch.setattr("os._exit", lambda code: ended.append(f"exit {code}"))
    monkeypatch.setattr(actor, "KILL_TIMEOUT", 0.0)
    idle = ManagerActor.__new__(ManagerActor)
    idle._me, idle._manager = Owner("m1", "i1", "manager-m1"), Leaving()  # type: ignore[assignment]
    await idle._leave_when_idle()
    assert ended == ["killed me for good: True", "exit 0"]


class SlowStore(FailingStore):
    """A store that blocks reads of the workflows `busy-*` until the test allows them."""

    def __init__(self, fixture: ManagerFixture) -> None:
        super().__init__(fixture.inner)
        self.blocked: list[str] = []
        self.gate = threading.Event()

    def get(self, key: str) -> bytes | None:
        if key.startswith("workflows/busy"):
            self.blocked.append(key)
            assert self.gate.wait(20.0)
        return super().get(key)


async def test_heartbeat_does_not_wait_for_store_calls(fixture: ManagerFixture) -> None:
    fixture.store = slow = SlowStore(fixture)
    async with fixture.manager() as (manager, _):
        waits = [
            asyncio.ensure_future(manager.wait(RunAddress("memory://", f"busy-{i}", 1, "u")))
            for i in range(STORE_THREADS)
        ]
        try:
            await eventually(lambda: len(slow.blocked) == STORE_THREADS)
            fixture.inner.delete(HEARTBEAT)
            await eventually(lambda: fixture.keys("managers/") == [HEARTBEAT])
        finally:
            slow.gate.set()
        await asyncio.gather(*waits, return_exceptions=True)
