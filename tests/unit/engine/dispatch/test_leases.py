"""Attempts are dispatched to leased workers: a worker executes many, and each attempt is finished exactly once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.support import runs
from tests.unit.engine.dispatch.leasing import ADDRESS, LONG, SHORT, LeaseFixture, Worker, key, returned, settle
from workflow.engine.dispatch import leases as engine_leases
from workflow.engine.messages import FinishedAttempt, Returned
from workflow.model.graph import StepOptions, Value


@pytest.fixture
def stalls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "STALL_TIMEOUT", 0.0)


@pytest.fixture
def idles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "IDLE_TIMEOUT", 0.0)


async def test_one_worker_executes_one_attempt_after_another() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a")
    worker = fixture.worker()
    assert await worker.ask() == ["a"]
    waiting = worker.ask()
    await settle()
    assert fixture.finished() == ["a"]
    assert not waiting.done(), "it keeps its lease for the next step"
    await fixture.start("b")
    assert await waiting == ["b"]
    assert len(fixture.opened) == 1


# --- batches ---


async def test_short_steps_are_batched_and_shared_by_workers() -> None:
    fixture = LeaseFixture(slots=2)
    step_ids = [f"s{number}" for number in range(100)]
    _, first = await fixture.start_batch(*step_ids)
    second = await fixture.worker().ask()
    assert len(first) > 1
    assert len(second) > 1
    assert first + second == step_ids[: len(first + second)]


async def test_long_steps_are_dispatched_singly_and_request_workers() -> None:
    fixture = LeaseFixture(slots=2)
    await fixture.start("a", "b", "c")
    worker = fixture.worker(0)
    await worker.ask()
    assert await worker.ask(seconds=LONG) == ["b"]
    await fixture.start(*(f"s{number}" for number in range(40)))
    assert len(fixture.opened) > fixture.slots, "an autoscaled cluster sees the demand"


async def test_step_of_an_unmeasured_function_has_its_own_batch() -> None:
    fixture = LeaseFixture(slots=1)
    worker, batch = await fixture.start_batch("a")
    fixture.function = "m.unknown"
    await fixture.start("b", "c")
    assert batch == ["a"]
    assert await worker.ask() == ["b"]
    assert await worker.ask() == ["c"]


async def test_unstarted_attempts_after_a_long_step_are_redispatched() -> None:
    fixture = LeaseFixture(slots=2)
    worker, batch = await fixture.start_batch("a", "b", "c")
    assert batch == ["a", "b", "c"]
    fixture.leases.return_unstarted(worker.lease_id, worker.sequence + 1, [key("b"), key("c")])
    await settle()
    other = fixture.worker()
    assert await other.ask() == ["b"]
    worker.batch = worker.batch[:1]
    assert await worker.ask(seconds=LONG) == ["c"]
    assert fixture.finished() == ["measured", "a"]


async def test_attempt_returned_late_is_redispatched_once() -> None:
    fixture = LeaseFixture(slots=1)
    worker, _ = await fixture.start_batch("a", "b", "c")
    worker.batch = worker.batch[:1]  # it returned the others, but that call arrives after its next exchange
    second = await worker.ask(seconds=LONG)
    fixture.leases.return_unstarted(worker.lease_id, worker.sequence, [key("b"), key("c")])
    await settle()
    assert second + await worker.ask(seconds=LONG) == ["b", "c"]
    assert fixture.finished() == ["measured", "a", "b"]


async def test_equal_step_ids_of_two_runs_are_two_attempts() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("measured")
    worker = fixture.worker()
    await worker.ask()
    waiting = worker.ask()
    await settle()
    other = LeaseFixture(address=replace(ADDRESS, run_uuid="other"))
    other.leases = fixture.leases
    await asyncio.gather(fixture.start("a"), other.start("a"))
    assert await waiting == ["a", "a"]
    result, other_result = (Returned(Value(text), "", 0.0, SHORT) for text in (b"one", b"other"))
    results = zip(worker.batch, (result, other_result), strict=True)
    finished = [FinishedAttempt(task.key, 1, each) for task, each in results]
    asking = asyncio.ensure_future(fixture.leases.exchange(worker.lease_id, worker.sequence + 1, finished))
    await settle()
    assert fixture.results[1:] == [("a", result)]
    assert other.results == [("a", other_result)]
    asking.cancel()


# --- repeated exchanges ---


async def test_exchange_repeated_while_it_waits_receives_the_tasks() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a")
    worker = fixture.worker()
    await worker.ask()
    finished = (returned("a", LONG),)
    first, again = (asyncio.ensure_future(fixture.leases.exchange(worker.lease_id, 1, finished)) for _ in range(2))
    await settle()
    first.cancel()  # the connection broke
    await fixture.start("b")
    assert [each.step_id for each in await again] == ["b"]
    assert fixture.finished() == ["a"]


async def test_repeated_exchange_has_the_same_reply_and_one_effect() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a", "b")
    worker = fixture.worker()
    await worker.ask()
    finished = (returned("a", LONG),)
    first = await fixture.leases.exchange(worker.lease_id, 1, finished)
    again = await fixture.leases.exchange(worker.lease_id, 1, finished)
    assert [each.step_id for each in first] == [each.step_id for each in again] == ["b"]
    assert fixture.finished() == ["a"]
    fixture.leases.return_unstarted(worker.lease_id, 2, [key("b")])
    assert await fixture.worker(0).ask() == ["b"], "worker and manager have the same sequence number"


async def test_worker_of_an_earlier_incarnation_ends() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a")
    assert await fixture.leases.exchange("of-another-1", 0, ()) == ()
    assert await fixture.worker().ask() == ["a"]


# --- cancellation ---


async def test_cancel_ends_the_worker_and_redispatches_the_others() -> None:
    fixture = LeaseFixture(slots=1)
    worker, batch = await fixture.start_batch("b", "c")
    assert batch == ["b", "c"]
    fixture.leases.cancel(fixture, ["b"])  # type: ignore[arg-type]
    assert fixture.ended == [worker.lease_id]
    worker.die()
    await settle()
    assert await fixture.worker().ask() == ["c"]
    late = await fixture.leases.exchange(worker.lease_id, 2, [returned("b", 0.0)])
    assert late == ()
    assert fixture.finished() == ["measured"], "a canceled attempt reports no result"


async def test_attempt_canceled_in_the_queue_is_never_dispatched() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a", "b")
    fixture.leases.cancel(fixture, ["a"])  # type: ignore[arg-type]
    assert await fixture.worker(0).ask() == ["b"]


# --- options ---


@pytest.mark.parametrize("options", [{"num_gpus": 1}, {"resources": {"special": 1}}, {"memory": 1}], ids=str)
async def test_worker_with_more_than_cpus_executes_one_attempt(options: dict[str, Any]) -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a", "b", **options)
    worker = fixture.worker(0)
    assert await worker.ask() == ["a"]
    assert await worker.ask() == []
    await settle()
    assert await fixture.worker().ask() == ["b"]
    assert [requested for _, requested in fixture.opened] == [options, options]


async def test_each_set_of_options_has_its_own_workers() -> None:
    fixture = LeaseFixture()
    await fixture.start("a", num_cpus=1)
    await fixture.start("b", num_cpus=2)
    assert [options for _, options in fixture.opened] == [{"num_cpus": 1}, {"num_cpus": 2}]
    assert await fixture.worker(1).ask() == ["b"]


@pytest.mark.usefixtures("stalls_at_once")
async def test_unused_sets_of_options_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "MAX_POOLS", 5)
    fixture = LeaseFixture(slots=1)
    await fixture.start("waits", num_gpus=1)
    for number in range(50):
        await fixture.start(f"s{number}", num_gpus=1, name=str(number))
        worker = fixture.worker()
        await worker.ask()
        assert await worker.ask() == []
        for _ in range(3):
            await settle()
    assert len(fixture.leases._pools) <= 6
    assert await fixture.worker(0).ask() == ["waits"]


# --- worker affinity ---

IN_PLACE = runs.graph("x/1 x/2:x/1", **{name: StepOptions(allow_inplace=True) for name in ("x__1", "x__2")})


@pytest.mark.parametrize("options", [{}, {"num_gpus": 1}], ids=["reusable worker", "worker with a GPU"])
async def test_steps_in_place_run_in_the_worker_that_returned_them(options: dict[str, Any]) -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("x", "other", **options)
    worker = fixture.worker(0)
    await worker.ask()
    waiting = worker.return_dag(IN_PLACE)
    await settle()
    assert not waiting.done(), "it waits for the steps of its DAG, and for no other step"
    await fixture.start_in_place("x/1", of="x", num_cpus=3)
    assert await waiting == ["x/1"]
    second = worker.ask(seconds=LONG)
    await settle()
    await fixture.start_in_place("x/2", of="x")
    assert await second == ["x/2"]
    assert fixture.finished() == ["x", "x/1"]


async def test_steps_in_place_of_a_dead_worker_run_with_own_options() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("x", num_gpus=1)
    worker = fixture.worker()
    await worker.ask()
    waiting = worker.return_dag(IN_PLACE)
    await settle()
    await fixture.start_in_place("x/1", of="x", num_cpus=3)
    assert await waiting == ["x/1"]
    await fixture.start_in_place("x/2", of="x", num_cpus=2)  # waits until the worker has finished x/1
    worker.die()
    await settle()
    others = {str(options): await Worker(fixture, lease_id).ask() for lease_id, options in fixture.opened[1:]}
    assert others == {"{'num_cpus': 3}": ["x/1"], "{'num_cpus': 2}": ["x/2"]}


@pytest.mark.usefixtures("idles_at_once")
async def test_reserved_worker_executes_other_steps_after_a_timeout() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("x", "other")
    worker = fixture.worker()
    await worker.ask()
    assert await worker.return_dag(IN_PLACE) == ["other"]
    await fixture.start_in_place("x/1", of="x")
    assert await worker.ask(seconds=LONG) == ["x/1"], "dispatched like any other step"


# --- number of workers ---


@pytest.mark.usefixtures("idles_at_once")
async def test_idle_worker_ends_after_the_timeout() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a")
    worker = fixture.worker()
    await worker.ask()
    assert await worker.ask() == []
    await fixture.start("b")
    assert await fixture.worker().ask() == ["b"]
    assert len(fixture.opened) == 2


@pytest.mark.usefixtures("stalls_at_once")
async def test_stalled_pool_requests_more_workers_than_fit() -> None:
    fixture = LeaseFixture(slots=1)
    worker, _ = await fixture.start_batch("first")  # short, so that no more workers than fit are requested at once
    await fixture.start("waits for the last", *(f"s{number}" for number in range(50)), "last")
    for _ in range(100):
        await settle()
    assert len(fixture.opened) > 50
    assert worker.batch[0].step_id == "first"


@pytest.mark.usefixtures("stalls_at_once")
async def test_no_more_workers_are_requested_than_steps_wait() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start(*(f"s{number}" for number in range(50)))
    for _ in range(200):
        await settle()
    assert len(fixture.opened) == 50
    assert fixture.leases._pools[""].oversubscription <= 100


@pytest.mark.usefixtures("stalls_at_once")
async def test_one_more_worker_is_requested_for_one_more_step() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start(*(f"s{number}" for number in range(30)))
    for _ in range(100):
        await settle()
    for index in range(30):
        assert await fixture.worker(index).ask() == [f"s{index}"]
    await fixture.start("all wait for this")
    for _ in range(100):
        await settle()
    assert len(fixture.opened) == 31
    assert await fixture.worker().ask() == ["all wait for this"]


@pytest.mark.usefixtures("stalls_at_once")
async def test_requested_workers_are_canceled_if_no_step_needs_them() -> None:
    fixture = LeaseFixture(slots=1)
    await fixture.start("a", "b", label_selector={"zone": "nowhere"})
    fixture.leases.cancel(fixture, ["a"])  # type: ignore[arg-type]
    for _ in range(100):
        await settle()
    assert fixture.ended == [], "one step still needs a worker"
    fixture.leases.cancel(fixture, ["b"])  # type: ignore[arg-type]
    for _ in range(100):
        await settle()
    assert fixture.ended == [lease_id for lease_id, _ in fixture.opened]
    await fixture.start("c", label_selector={"zone": "nowhere"})
    for lease_id in fixture.ended:
        fixture.leases.lease_ended(lease_id, RuntimeError("canceled"))
    await settle()
    assert await fixture.worker().ask() == ["c"]
