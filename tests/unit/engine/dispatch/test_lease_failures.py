"""Workers that die: what they had goes to others, and only what was executed, or asked for in vain, can fail a step."""

from __future__ import annotations

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

from tests.unit.engine.dispatch.leasing import House, settle
from workflow.engine.dispatch import leases as engine_leases
from workflow.engine.dispatch.leases import SYSTEM_RETRIES
from workflow.engine.dispatch.pool import Cause
from workflow.engine.dispatch.ray_runner import cause_of
from workflow.engine.messages import Raised


def raised(cause: Exception) -> RayTaskError:
    """What `serve` raised, as Ray hands it on."""
    return RayTaskError("serve", "its traceback", cause)


HOPELESS = [
    RuntimeEnvSetupError("no such package"),
    TaskUnschedulableError("its node is gone"),
    TaskPlacementGroupRemoved(),
    raised(RuntimeError("The remote function failed to import on the worker.")),
]
NODES = [NodeDiedError("unreachable"), LocalRayletDiedError()]
WORKERS = [
    WorkerCrashedError(),
    OutOfMemoryError("the node runs low"),
    RaySystemError("startup failed"),
    raised(RayActorError()),
    raised(OSError("no descriptor left")),
    RuntimeError("worker died"),
]


@pytest.mark.parametrize("error", [*HOPELESS, *NODES, *WORKERS], ids=repr)
def test_what_ray_says_tells_whose_fault_it_is(error: Exception) -> None:
    wanted = Cause.OPTIONS if error in HOPELESS else Cause.NODE if error in NODES else Cause.WORKER
    assert cause_of(error) is wanted


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "FIRST_REST", 0.0)


async def test_what_a_dead_worker_had_is_handed_to_others_one_by_one() -> None:
    house = House(slots=1)
    worker, handed = await house.handed("a", "b", "c")
    assert handed == ["a", "b", "c"]
    worker.dies()
    await settle()
    other = house.worker()
    assert other.number != worker.number
    assert [await other.ask() for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert house.told() == ["measured", "a", "b"]


async def test_a_step_that_kills_its_worker_each_time_fails_alone() -> None:
    house = House(slots=1)
    await house.start("bad")
    for _ in range(SYSTEM_RETRIES + 1):
        worker = house.worker()
        assert await worker.ask() == ["bad"]
        worker.dies()
        await settle()
    (step_id, result), *more = house.results
    assert (step_id, more) == ("bad", [])
    assert isinstance(result, Raised)
    assert result.system
    assert "worker died" in result.error.message
    await house.start("good")
    assert await house.worker().ask() == ["good"]


@pytest.mark.parametrize("error", NODES, ids=repr)
async def test_a_step_whose_nodes_die_is_handed_over_however_often_that_is(error: Exception) -> None:
    house = House(slots=1)
    await house.start("unlucky")
    for _ in range(3 * SYSTEM_RETRIES):
        worker = house.worker()
        assert await worker.ask() == ["unlucky"]
        worker.dies(error)
        await settle()
    assert house.told() == []


async def test_a_worker_that_dies_while_it_waits_leaves_nobody_waiting() -> None:
    house = House(slots=1)
    await house.start("a")
    worker = house.worker()
    await worker.ask()
    waiting = worker.ask()
    await settle()
    worker.dies()
    await settle()
    assert waiting.done()
    assert await waiting == []


async def test_options_that_ray_refuses_are_the_steps_failure() -> None:
    house = House(refuses=ValueError("num_cpus must not be negative"))
    await house.start("a", "b", num_cpus=-1)
    assert house.told() == ["a", "b"]
    assert all("num_cpus must not be negative" in result.error.message for _, result in house.results)


@pytest.mark.parametrize("error", HOPELESS, ids=repr)
async def test_workers_that_can_never_come_up_are_the_steps_failure(error: Exception) -> None:
    house = House(slots=1)
    await house.start("a", "b")
    house.worker().dies(error)
    await settle()
    assert house.told() == ["a", "b"]
    assert all(result.system for _, result in house.results)


@pytest.mark.parametrize("error", [*NODES, *WORKERS], ids=repr)
@pytest.mark.usefixtures("no_rest")
async def test_workers_that_die_before_their_first_step_are_no_steps_failure(error: Exception) -> None:
    house = House(slots=16)
    await house.start(*(f"s{number}" for number in range(100)))
    for index in range(16):
        house.worker(index).dies(error)
    for _ in range(3):
        await settle()
    assert house.told() == []
    assert len(house.opened) > 16
    assert await house.worker().ask() == ["s0"]


async def test_each_worker_that_dies_before_its_first_step_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_leases, "FIRST_REST", 100.0)
    monkeypatch.setattr(engine_leases, "LONGEST_REST", 300.0)
    house = House(slots=2)
    await house.start("a", "b")
    pool, pauses = house.leases._pools[""], []
    for _ in range(4):
        house.worker(-1).dies(WorkerCrashedError())
        house.worker(-2).dies(WorkerCrashedError())  # came up together, died together
        await settle()
        opened = len(house.opened)
        pauses.append(pool.pause)
        assert pool.rest is not None
        pool.rest.cancel()
        house.leases._go_on(pool)  # time passes
        await settle()
        assert len(house.opened) == opened + 2, "none before"
    assert pauses == [100.0, 200.0, 300.0, 300.0]
    await house.worker().ask()
    assert pool.pause == 0.0


async def test_those_that_wait_take_steps_while_no_more_workers_are_asked_for() -> None:
    house = House(slots=2)
    await house.start("a", "b")
    worker = house.worker(0)
    await worker.ask()
    house.worker(1).dies(WorkerCrashedError())
    await settle()
    assert await worker.ask() == ["b"]
    assert len(house.opened) == 2
