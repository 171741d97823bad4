"""Workers that die: their attempts are dispatched again, and a step fails only if it may be the cause."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from tests.unit.engine.dispatch.leasing import LeaseFixture, settle
from workflow.engine.dispatch import leases as engine_leases
from workflow.engine.dispatch.leases import SYSTEM_RETRIES
from workflow.engine.dispatch.pool import Cause
from workflow.engine.dispatch.ray_runner import cause_of
from workflow.engine.messages import Raised


def raised_by_serve(cause: Exception) -> RayTaskError:
    """Return Ray's error for an exception that `worker_loop.serve` raised."""
    return RayTaskError("serve", "its traceback", cause)


OPTIONS = [
    RuntimeEnvSetupError("no such package"),
    TaskUnschedulableError("its node is gone"),
    TaskPlacementGroupRemoved(),
    raised_by_serve(RuntimeError("The remote function failed to import on the worker.")),
]
NODES = [NodeDiedError("unreachable"), LocalRayletDiedError()]
WORKERS = [
    WorkerCrashedError(),
    OutOfMemoryError("the node runs low"),
    RaySystemError("startup failed"),
    raised_by_serve(RayActorError()),
    raised_by_serve(OSError("no descriptor left")),
    RuntimeError("worker died"),
]
CAUSES = [
    *((error, Cause.OPTIONS) for error in OPTIONS),
    *((error, Cause.NODE) for error in NODES),
    *((error, Cause.WORKER) for error in WORKERS),
]


@pytest.mark.parametrize(("error", "cause"), CAUSES, ids=repr)
def test_error_of_the_ray_task_identifies_the_cause(error: Exception, cause: Cause) -> None:
    assert cause_of(error) is cause


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "INITIAL_BACKOFF", 0.0)


async def test_attempts_of_a_dead_worker_are_redispatched_singly() -> None:
    fixture = LeaseFixture(slots=1)
    worker, batch = await fixture.start_batch("a", "b", "c")
    assert batch == ["a", "b", "c"]
    worker.die()
    await settle()
    other = fixture.worker()
    assert other.lease_id != worker.lease_id
    assert [await other.ask() for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert fixture.finished() == ["measured", "a", "b"]


async def test_step_that_kills_every_worker_fails_alone() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("bad")
    for _ in range(SYSTEM_RETRIES + 1):
        worker = fixture.worker()
        assert await worker.ask() == ["bad"]
        worker.die()
        await settle()
    (step_id, result), *more = fixture.results
    assert (step_id, more) == ("bad", [])
    assert isinstance(result, Raised)
    assert result.system
    assert "worker died" in result.error.message
    await fixture.start("good")
    assert await fixture.worker().ask() == ["good"]


@pytest.mark.parametrize("error", NODES, ids=repr)
async def test_node_failures_are_never_the_fault_of_a_step(error: Exception) -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("unlucky")
    for _ in range(3 * SYSTEM_RETRIES):
        worker = fixture.worker()
        assert await worker.ask() == ["unlucky"]
        worker.die(error)
        await settle()
    assert fixture.finished() == []


async def test_exchange_of_a_worker_that_dies_waiting_is_finished() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a")
    worker = fixture.worker()
    await worker.ask()
    waiting = worker.ask()
    await settle()
    worker.die()
    await settle()
    assert waiting.done()
    assert await waiting == []


async def test_step_fails_if_ray_refuses_its_options() -> None:
    fixture = LeaseFixture(refuses=ValueError("num_cpus must not be negative"))
    await fixture.start("a", "b", num_cpus=-1)
    assert fixture.finished() == ["a", "b"]
    assert all("num_cpus must not be negative" in result.error.message for _, result in fixture.results)


@pytest.mark.parametrize("error", OPTIONS, ids=repr)
async def test_step_fails_if_no_worker_can_ever_start(error: Exception) -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a", "b")
    fixture.worker().die(error)
    await settle()
    assert fixture.finished() == ["a", "b"]
    assert all(result.system for _, result in fixture.results)


@pytest.mark.parametrize("error", [*NODES, *WORKERS], ids=repr)
@pytest.mark.usefixtures("no_backoff")
async def test_worker_deaths_before_the_first_step_fail_no_step(error: Exception) -> None:
    fixture = LeaseFixture(slots=16)
    await fixture.start(*(f"s{number}" for number in range(100)))
    for index in range(16):
        fixture.worker(index).die(error)
    for _ in range(3):
        await settle()
    assert fixture.finished() == []
    assert len(fixture.opened) > 16
    assert await fixture.worker().ask() == ["s0"]


async def test_backoff_doubles_until_a_worker_asks_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "INITIAL_BACKOFF", 100.0)
    monkeypatch.setattr(engine_leases, "MAX_BACKOFF", 300.0)
    fixture = LeaseFixture(slots=2)
    await fixture.start("a", "b")
    pool, delays = fixture.leases._pools[""], []
    for _ in range(4):
        fixture.worker(-1).die(WorkerCrashedError())
        fixture.worker(-2).die(WorkerCrashedError())  # they started together, so their deaths count once
        await settle()
        opened = len(fixture.opened)
        assert pool.backoff_timer is not None
        delays.append(pool.backoff_timer.when() - asyncio.get_running_loop().time())
        pool.backoff_timer.cancel()
        fixture.leases._end_backoff(pool)  # the delay has passed
        await settle()
        assert len(fixture.opened) == opened + 2, "none was requested before"
    assert delays == pytest.approx([100.0, 200.0, 300.0, 300.0], abs=30.0)
    await fixture.worker().ask()
    assert pool.failed_starts == 0


async def test_waiting_workers_receive_steps_during_a_backoff() -> None:
    fixture = LeaseFixture(slots=2)
    await fixture.start("a", "b")
    worker = fixture.worker(0)
    await worker.ask()
    fixture.worker(1).die(WorkerCrashedError())
    await settle()
    assert await worker.ask() == ["b"]
    assert len(fixture.opened) == 2
