"""What code knows of the step that it belongs to: in coroutines and threads of asyncio too, never after the step."""

from __future__ import annotations

import asyncio

import pytest

from workflow.engine.messages import RunAddress, StepTask
from workflow.engine.worker import context
from workflow.model import ids
from workflow.model.graph import Value

RUN = RunAddress("memory://", "w", 1, "run")
TASK = StepTask(RUN, "s", "m.f", "", Value(b""), (), 1, render=False, written_by="")


def nth(ordinal: int) -> str:
    return ids.nested("w", 1, "s", ordinal)


def test_calls_are_counted_anew_in_each_execution() -> None:
    for _ in range(2):
        with context.of_step(TASK):
            assert [context.next_nested_id(), context.next_nested_id()] == [nth(1), nth(2)]


def test_a_step_is_known_in_its_coroutines_and_their_threads() -> None:
    async def calls() -> list[str]:
        inner = asyncio.create_task(asyncio.to_thread(context.next_nested_id))
        return [await inner, context.next_nested_id()]

    with context.of_step(TASK):
        assert asyncio.run(calls()) == [nth(1), nth(2)]
        assert context.store_url() == "memory://"


def test_nothing_is_known_outside_of_a_step_nor_after_one_that_raised() -> None:
    with pytest.raises(ValueError, match="no luck"), context.of_step(TASK):
        raise ValueError("no luck")
    assert context.current_step() is None
    assert context.next_nested_id() == ""
