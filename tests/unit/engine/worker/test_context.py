"""The context of a step is known in its code, coroutines and threads, and never after the step."""

from __future__ import annotations

import asyncio

import pytest

from workflow.engine.messages import RunAddress, StepTask
from workflow.engine.worker import context
from workflow.model import ids
from workflow.model.graph import Value

RUN = RunAddress("memory://", "w", 1, "run")
TASK = StepTask(RUN, "s", "m.f", "", Value(b""), (), 1, render=False, written_by="")


def nested_id(ordinal: int) -> str:
    """Return the id of the workflow that the step starts as number `ordinal`."""
    return ids.nested("w", 1, "s", ordinal)


def test_each_attempt_counts_nested_workflows_from_one() -> None:
    for _ in range(2):
        with context.of_step(TASK):
            assert [context.next_nested_id(), context.next_nested_id()] == [nested_id(1), nested_id(2)]


def test_step_is_known_in_its_coroutines_and_their_threads() -> None:
    async def calls() -> list[str]:
        inner = asyncio.create_task(asyncio.to_thread(context.next_nested_id))
        return [await inner, context.next_nested_id()]

    with context.of_step(TASK):
        assert asyncio.run(calls()) == [nested_id(1), nested_id(2)]
        assert context.store_url() == "memory://"


def test_step_is_unknown_after_it_raised() -> None:
    with pytest.raises(ValueError, match="no luck"), context.of_step(TASK):
        raise ValueError("no luck")
    assert context.current_step() is None
    assert context.next_nested_id() == ""
