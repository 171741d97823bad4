"""Tries handed to leased workers: one worker executes many, and none is lost or told twice whatever becomes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.support import runs
from tests.unit.engine.dispatch.leasing import ADDRESS, LONG, SHORT, House, Worker, key, settle
from workflow.engine.dispatch import leases as engine_leases
from workflow.engine.messages import FinishedAttempt, Returned
from workflow.model.graph import StepOptions, Value


async def test_one_worker_executes_one_try_after_another() -> None:
    house = House(slots=1)
    await house.start("a")
    worker = house.worker()
    assert await worker.ask() == ["a"]
    waiting = worker.ask()
    await settle()
    assert house.told() == ["a"]
    assert not waiting.done(), "it keeps its place for what comes next"
    await house.start("b")
    assert await waiting == ["b"]
    assert len(house.opened) == 1


async def test_steps_measured_short_are_handed_over_together_and_shared_out() -> None:
    house = House(slots=2)
    names = [f"s{number}" for number in range(100)]
    _, first = await house.handed(*names)
    second = await house.worker().ask()
    assert len(first) > 1
    assert len(second) > 1
    assert first + second == names[: len(first + second)]


async def test_long_steps_are_handed_over_one_by_one_and_ask_for_more_places() -> None:
    house = House(slots=2)
    await house.start("a", "b", "c")
    worker = house.worker(0)
    await worker.ask()
    assert await worker.ask(took=LONG) == ["b"]
    await house.start(*(f"s{number}" for number in range(40)))
    assert len(house.opened) > house.slots, "a cluster that grows with demand sees the demand"


async def test_what_was_never_measured_is_handed_over_alone() -> None:
    house = House(slots=1)
    worker, handed = await house.handed("a")
    house.function = "m.unknown"
    await house.start("b", "c")
    assert handed == ["a"]
    assert await worker.ask() == ["b"]
    assert await worker.ask() == ["c"]


async def test_what_waits_behind_a_step_that_turns_out_long_is_handed_to_others() -> None:
    house = House(slots=2)
    worker, handed = await house.handed("a", "b", "c")
    assert handed == ["a", "b", "c"]
    house.leases.return_unstarted(worker.number, worker.turn + 1, [key("b"), key("c")])
    await settle()
    other = house.worker()
    assert await other.ask() == ["b"]
    worker.batch = worker.batch[:1]
    assert await worker.ask(took=LONG) == ["c"]
    assert house.told() == ["measured", "a"]


async def test_equal_ids_of_two_runs_in_one_batch_are_two_tries() -> None:
    house = House(slots=1)
    await house.start("measured")
    worker = house.worker()
    await worker.ask()
    waiting = worker.ask()
    await settle()
    other = House(address=replace(ADDRESS, run_uuid="other"))
    other.leases = house.leases
    await asyncio.gather(house.start("a"), other.start("a"))
    assert await waiting == ["a", "a"]
    mine, others = (Returned(Value(text), "", 0.0, SHORT) for text in (b"mine", b"the other's"))
    done = [FinishedAttempt(task.key, 1, each) for task, each in zip(worker.batch, (mine, others), strict=True)]
    asking = asyncio.ensure_future(house.leases.exchange(worker.number, worker.turn + 1, done))
    await settle()
    assert house.results[1:] == [("a", mine)]
    assert other.results == [("a", others)]
    asking.cancel()


async def test_a_try_that_was_given_back_late_is_neither_lost_nor_handed_over_twice() -> None:
    house = House(slots=1)
    worker, _ = await house.handed("a", "b", "c")
    worker.batch = worker.batch[:1]  # it took the others out of its hands, and says so only after its next exchange
    second = await worker.ask(took=LONG)
    house.leases.return_unstarted(worker.number, worker.turn, [key("b"), key("c")])
    await settle()
    assert second + await worker.ask(took=LONG) == ["b", "c"]
    assert house.told() == ["measured", "a", "b"]


async def test_more_places_are_asked_for_where_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "STUCK", 0.0)
    house = House(slots=1)
    worker, _ = await house.handed("first")  # short, so that no more places than fit are asked for at once
    await house.start("waits for the last", *(f"s{number}" for number in range(50)), "last")
    for _ in range(100):
        await settle()
    assert len(house.opened) > 50
    assert worker.batch[0].step_id == "first"


async def test_an_exchange_repeated_while_it_waits_gets_what_the_first_would_have() -> None:
    house = House(slots=1)
    await house.start("a")
    worker = house.worker()
    await worker.ask()
    done = (FinishedAttempt(key("a"), 1, Returned(Value(b"1"), "", 0.0, LONG)),)
    first, again = (asyncio.ensure_future(house.leases.exchange(worker.number, 1, done)) for _ in range(2))
    await settle()
    first.cancel()  # the connection broke
    await house.start("b")
    assert [each.step_id for each in await again] == ["b"]
    assert house.told() == ["a"]


async def test_a_repeated_exchange_gets_the_same_and_tells_nothing_twice() -> None:
    house = House(slots=1)
    await house.start("a", "b")
    worker = house.worker()
    await worker.ask()
    done = (FinishedAttempt(key("a"), 1, Returned(Value(b"1"), "", 0.0, LONG)),)
    first = await house.leases.exchange(worker.number, 1, done)
    again = await house.leases.exchange(worker.number, 1, done)
    assert [each.step_id for each in first] == [each.step_id for each in again] == ["b"]
    assert house.told() == ["a"]
    house.leases.return_unstarted(worker.number, 2, [key("b")])
    assert await house.worker(0).ask() == ["b"], "the worker's count of its exchanges is still the manager's"


async def test_cancel_ends_the_worker_and_its_neighbours_go_on_elsewhere() -> None:
    house = House(slots=1)
    worker, handed = await house.handed("b", "c")
    assert handed == ["b", "c"]
    house.leases.cancel(house, ["b"])  # type: ignore[arg-type]
    assert house.ended == [worker.number]
    worker.dies()
    await settle()
    assert await house.worker().ask() == ["c"]
    late = await house.leases.exchange(
        worker.number, 2, [FinishedAttempt(key("b"), 1, Returned(Value(b"1"), "", 0.0, 0.0))]
    )
    assert late == ()
    assert house.told() == ["measured"], "nothing is told of what was stopped"


async def test_a_try_that_was_stopped_before_a_worker_took_it_is_never_handed_over() -> None:
    house = House(slots=1)
    await house.start("a", "b")
    house.leases.cancel(house, ["a"])  # type: ignore[arg-type]
    assert await house.worker(0).ask() == ["b"]


@pytest.mark.parametrize("options", [{"num_gpus": 1}, {"resources": {"special": 1}}, {"memory": 1}])
async def test_a_worker_that_holds_more_than_cpus_executes_one_try_and_leaves(options: dict[str, Any]) -> None:
    house = House(slots=1)
    await house.start("a", "b", **options)
    worker = house.worker(0)
    assert await worker.ask() == ["a"]
    assert await worker.ask() == []
    await settle()
    assert await house.worker().ask() == ["b"]
    assert [given for _, given in house.opened] == [options, options]


IN_PLACE = runs.graph("x/1 x/2:x/1", **{name: StepOptions(allow_inplace=True) for name in ("x__1", "x__2")})


@pytest.mark.parametrize("options", [{}, {"num_gpus": 1}], ids=["kept for more", "holds a GPU"])
async def test_steps_in_place_are_executed_by_the_worker_that_returned_them(options: dict[str, Any]) -> None:
    house = House(slots=1)
    await house.start("x", "stranger", **options)
    worker = house.worker(0)
    await worker.ask()
    waiting = worker.returns(IN_PLACE)
    await settle()
    assert not waiting.done(), "it waits for what it returned, and not for strangers"
    await house.start_in_place("x/1", of="x", num_cpus=3)
    assert await waiting == ["x/1"]
    second = worker.ask(took=LONG)
    await settle()
    await house.start_in_place("x/2", of="x")
    assert await second == ["x/2"]
    assert house.told() == ["x", "x/1"]


async def test_steps_in_place_whose_worker_died_are_executed_elsewhere_with_their_own_options() -> None:
    house = House(slots=1)
    await house.start("x", num_gpus=1)
    worker = house.worker()
    await worker.ask()
    waiting = worker.returns(IN_PLACE)
    await settle()
    await house.start_in_place("x/1", of="x", num_cpus=3)
    assert await waiting == ["x/1"]
    await house.start_in_place("x/2", of="x", num_cpus=2)  # waits until the worker has done the other
    worker.dies()
    await settle()
    others = {str(options): await Worker(house, number).ask() for number, options in house.opened[1:]}
    assert others == {"{'num_cpus': 3}": ["x/1"], "{'num_cpus': 2}": ["x/2"]}


async def test_a_worker_that_waits_in_vain_for_steps_in_place_does_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "LINGER", 0.0)
    house = House(slots=1)
    await house.start("x", "stranger")
    worker = house.worker()
    await worker.ask()
    assert await worker.returns(IN_PLACE) == ["stranger"]
    await house.start_in_place("x/1", of="x")
    assert await worker.ask(took=LONG) == ["x/1"], "as any other step"


async def test_each_set_of_options_has_workers_of_its_own() -> None:
    house = House()
    await house.start("a", num_cpus=1)
    await house.start("b", num_cpus=2)
    assert [options for _, options in house.opened] == [{"num_cpus": 1}, {"num_cpus": 2}]
    assert await house.worker(1).ask() == ["b"]


async def test_a_worker_that_waited_long_enough_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "LINGER", 0.0)
    house = House(slots=1)
    await house.start("a")
    worker = house.worker()
    await worker.ask()
    assert await worker.ask() == []
    await house.start("b")
    assert await house.worker().ask() == ["b"]
    assert len(house.opened) == 2


async def test_a_worker_of_an_earlier_manager_is_sent_away() -> None:
    house = House(slots=1)
    await house.start("a")
    assert await house.leases.exchange("of-another-1", 0, ()) == ()
    assert await house.worker().ask() == ["a"]


async def test_no_more_places_are_asked_for_than_there_are_steps_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "STUCK", 0.0)
    house = House(slots=1)
    await house.start(*(f"s{number}" for number in range(50)))
    for _ in range(200):
        await settle()
    assert len(house.opened) == 50
    assert house.leases._pools[""].beyond <= 100


async def test_one_more_place_is_asked_for_however_many_wait_for_what_is_to_run_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_leases, "STUCK", 0.0)
    house = House(slots=1)
    await house.start(*(f"s{number}" for number in range(30)))
    for _ in range(100):
        await settle()
    for index in range(30):
        assert await house.worker(index).ask() == [f"s{index}"]
    await house.start("all wait for this")
    for _ in range(100):
        await settle()
    assert len(house.opened) == 31
    assert await house.worker().ask() == ["all wait for this"]


async def test_of_options_that_nobody_uses_any_more_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "POOLS_REMEMBERED", 5)
    monkeypatch.setattr(engine_leases, "STUCK", 0.0)
    house = House(slots=1)
    await house.start("waits", num_gpus=1)
    for number in range(50):
        await house.start(f"s{number}", num_gpus=1, name=str(number))
        worker = house.worker()
        await worker.ask()
        assert await worker.ask() == []
        for _ in range(3):
            await settle()
    assert len(house.leases._pools) <= 6
    assert await house.worker(0).ask() == ["waits"]


async def test_places_that_nobody_needs_any_more_are_not_asked_for_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_leases, "STUCK", 0.0)
    house = House(slots=1)
    await house.start("a", "b", label_selector={"zone": "nowhere"})
    house.leases.cancel(house, ["a"])  # type: ignore[arg-type]
    for _ in range(100):
        await settle()
    assert house.ended == [], "one step still waits for a place"
    house.leases.cancel(house, ["b"])  # type: ignore[arg-type]
    for _ in range(100):
        await settle()
    assert house.ended == [number for number, _ in house.opened]
    await house.start("c", label_selector={"zone": "nowhere"})
    for number in house.ended:
        house.leases.lost(number, RuntimeError("canceled"))
    await settle()
    assert await house.worker().ask() == ["c"]
