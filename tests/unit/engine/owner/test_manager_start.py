"""How a manager comes up and leaves while its store is away: it goes on trying, refuses nobody for long, and ends."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.support.fake_runner import FakeRunner
from tests.support.managers import House, begun, never, new_run, soon
from tests.support.waiting import eventually, until
from workflow.engine.driver import actor
from workflow.engine.driver.actor import ManagerActor
from workflow.engine.messages import RunAddress
from workflow.engine.owner.manager import ClaimRequest
from workflow.engine.owner.runtime import STORE_THREADS
from workflow.errors import StoreRefusedError, StoreUnavailableError, UnavailableError
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

HEARTBEAT = "managers/m1"


@pytest.fixture
def house() -> House:
    return House()


async def orphan(house: House) -> Created:
    """A run whose manager died."""
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    return created


@pytest.mark.parametrize("method", ["overwrite", "list", "get"])
async def test_a_manager_that_comes_up_in_an_outage_takes_its_runs_up_behind_it(house: House, method: str) -> None:
    created = await orphan(house)
    house.store.fail(method, times=7)
    async with house.manager(incarnation="i2") as (manager, _):
        await eventually(lambda: manager.live or house.keys("index/SUCCESSFUL"))
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_a_manager_does_not_leave_before_it_could_read_what_it_owns(house: House) -> None:
    await orphan(house)
    house.store.fail("list", key="owned/", times=1_000_000)
    async with house.manager(incarnation="i2") as (manager, _):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(manager.idle(0.0), 0.3)


async def test_a_manager_whose_store_refuses_it_may_leave(house: House) -> None:
    house.store.fail("overwrite", times=1_000_000, error=StoreRefusedError("no such bucket"))
    async with house.manager() as (manager, _):
        with pytest.raises(StoreRefusedError, match="no such bucket"):
            await soon(manager.start(new_run("a")))
        await soon(manager.idle(0.0))


async def test_one_damaged_key_keeps_no_other_run_from_being_taken_up(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await orphan(house)
    house.inner.create("owned/m1/0", b"", "1")
    async with house.manager(incarnation="i2"):  # nobody waits for it, which would have it looked for
        await eventually(lambda: house.keys("index/SUCCESSFUL"))
    assert "owned/m1/0 is damaged: it names no run" in caplog.text


async def test_no_run_is_owned_before_its_owner_is_known_to_live(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        await begun(house, manager, workflow_id="w")
        await house.abandon(manager)
    house.store.fail("overwrite", times=1_000_000)
    async with house.manager("m2") as (manager, _):
        with pytest.raises(StoreUnavailableError):
            await soon(manager.start(new_run("a", workflow_id="other")))
        with pytest.raises(StoreUnavailableError):
            await soon(manager.claim(ClaimRequest("w", 1, take_over=True)))
    assert house.keys("owned/m2/") == house.keys("workflows/other/") == []


class Blocking(MemoryStore):
    """A store whose heartbeats do not come through until the test says so."""

    def __init__(self) -> None:
        super().__init__("blocking")
        self.gate = threading.Event()

    def overwrite(self, key: str, data: bytes) -> None:
        assert self.gate.wait(20)
        super().overwrite(key, data)


class RunnerWithoutRay(FakeRunner):
    """As far as the actor asks."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    async def begin(self) -> None:
        """See RayRunner."""


async def end(made: ManagerActor) -> None:
    """Leave nothing on an actor's loop, which goes on in a thread of its own."""
    await made._manager.leave()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def test_an_actor_is_made_while_its_store_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray restarts no actor whose constructor raised, and kills one that does not answer for long."""
    store = Blocking()
    monkeypatch.setattr(actor, "shared_store", lambda url: store)
    monkeypatch.setattr(actor, "RayRunner", RunnerWithoutRay)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor=None))
    made = ManagerActor("memory://blocking", "m1", "manager-m1")
    assert asyncio.run(made.ping()).manager == "m1"
    assert store.get(HEARTBEAT) is None
    store.gate.set()
    until(lambda: store.get(HEARTBEAT) is not None)
    asyncio.run_coroutine_threadsafe(end(made), made._loop).result(10)
    made._loop.call_soon_threadsafe(made._loop.stop)
    until(lambda: not made._loop.is_running())
    made._loop.close()


# --- leaving ---


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), StoreRefusedError("expired")], ids=repr)
async def test_a_heartbeat_that_cannot_be_removed_is_left_behind(
    house: House, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with house.manager() as (manager, _):
        house.store.fail("delete", key=HEARTBEAT, error=error)
        await soon(manager.leave())
        assert house.keys("managers/") == [HEARTBEAT]
    assert "leaves its heartbeat behind" in caplog.text


async def test_whoever_asks_a_manager_that_has_left_is_refused(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await manager.leave()
        address = house.address(created)
        for asked in (
            manager.wait(address),
            manager.wait_or_resume(address),
            manager.notify(created.run_uuid),
            manager.start(new_run("b")),
            manager.claim(ClaimRequest("w", 1)),
        ):
            with pytest.raises(UnavailableError, match="leaving"):
                await soon(asked)


async def test_who_follows_anothers_run_at_a_manager_that_leaves_is_told(house: House) -> None:
    async with house.manager(script=never) as (owner, _):
        created = await begun(house, owner)
        async with house.manager("m2") as (manager, _):
            waiting = [
                asyncio.ensure_future(each(house.address(created))) for each in (manager.wait, manager.wait_or_resume)
            ]
            await asyncio.sleep(0.1)
            await manager.leave()
            for each in waiting:
                with pytest.raises(UnavailableError, match="leaving"):
                    await soon(each)


@pytest.mark.parametrize("error", [None, OSError("the disk is gone")], ids=repr)
async def test_the_process_ends_whatever_its_leave_came_to(
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
    idle = ManagerActor.__new__(ManagerActor)
    idle._me, idle._manager = Owner("m1", "i1", "manager-m1"), Leaving()  # type: ignore[assignment]
    await idle._leave_when_idle()
    assert ended == ["killed me for good: True", "exit 0"]


class SlowStore(FailingStore):
    """Answers no question about some runs until it may."""

    def __init__(self, house: House) -> None:
        super().__init__(house.inner)
        self.waiting: list[str] = []
        self.may = threading.Event()

    def get(self, key: str) -> bytes | None:
        if key.startswith("workflows/busy"):
            self.waiting.append(key)
            assert self.may.wait(20.0)
        return super().get(key)


async def test_the_heartbeat_waits_behind_nobody(house: House) -> None:
    house.store = slow = SlowStore(house)
    async with house.manager() as (manager, _):
        waits = [
            asyncio.ensure_future(manager.wait(RunAddress("memory://", f"busy-{i}", 1, "u")))
            for i in range(STORE_THREADS)
        ]
        try:
            await eventually(lambda: len(slow.waiting) == STORE_THREADS)
            house.inner.delete(HEARTBEAT)
            await eventually(lambda: house.keys("managers/") == [HEARTBEAT])
        finally:
            slow.may.set()
        await asyncio.gather(*waits, return_exceptions=True)
