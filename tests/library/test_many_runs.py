"""Many runs of the same DAG at once, in one manager and its shared workers: each gets its own values."""

from __future__ import annotations

import pytest
import ray

import workflow
from tests.support import checker, stored
from tests.support.history import Expected
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")
RUNS = 40


@workflow.step
def double(value: int, slept: None = None) -> int:
    return 2 * value


@workflow.step
def add(left: int, right: int) -> int:
    return left + right


def test_parallel_runs_with_equal_step_ids_keep_their_values(wid: str, store: Store) -> None:
    pending = []
    for number in range(RUNS):
        first = double.step(number, workflow.sleep(1.0))  # so that all runs are active at the same time
        composed = add.step(double.step(first), double.step(double.step(first)))
        pending.append(composed.run_async(f"{wid}-{number}"))
    values = ray.get(pending)
    assert values == [12 * number for number in range(RUNS)]
    objects = stored.in_memory(store)
    for number, value in enumerate(values):
        history = checker.check(objects, f"{wid}-{number}", expected=Expected(str(value)))
        assert len(history.outcomes) == 6
