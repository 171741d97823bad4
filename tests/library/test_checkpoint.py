"""Steps with `checkpoint=False`: their values are not stored, and are produced again if a resumed run needs them."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.engine.worker import context
from workflow.errors import InvalidInputError
from workflow.model import records as r
from workflow.reading import read_run
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")

LARGE = 300_000
"""How many numbers make a value of more than two megabytes."""


@workflow.step
def make(marks: Marks, size: int) -> Any:
    marks.started("make")
    return np.arange(size)


@workflow.step
def doubled(marks: Marks, values: Any) -> Any:
    marks.started("doubled")
    return values * 2


@workflow.step
def total(values: Any, *_: Any) -> int:
    return int(values.sum())


@workflow.step
def total_in_second_attempt(marks: Marks, values: Any) -> int:
    marks.started("total")
    if marks.starts()["total"] == 1:
        raise ValueError("no luck")
    return int(values.sum())


def recorded(store: Store, workflow_id: str, kind: type[r.Record]) -> list[str]:
    return [each.record.step_id for each in invariants.log_of(store, workflow_id) if isinstance(each.record, kind)]


def is_lost(ref: Any) -> bool:
    try:
        ray.get(ref)
    except ray.exceptions.ObjectLostError:
        return True
    return False


@pytest.mark.parametrize("size", [10, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("options", [{}, {"num_gpus": 1}], ids=["shared process", "own process"])
def test_ephemeral_value_reaches_consumers_and_is_not_stored(
    marks: Marks, wid: str, store: Store, size: int, options: dict[str, Any]
) -> None:
    first = make.options(name="first", checkpoint=False, **options).step(marks, size)
    second = doubled.options(name="second", checkpoint=False).step(marks, first)
    assert total.options(name="last").step(second, first).run(wid) == size * (size - 1)
    assert recorded(store, wid, r.StepReturnedEphemeral) == ["first", "second"]
    assert recorded(store, wid, r.StepCommitted) == ["last"]
    assert max(info.size for info in store.list("workflows/")) < 100_000
    assert marks.starts() == {"make": 1, "doubled": 1}
    view = read_run(store, wid)
    assert view is not None
    assert view.counts.succeeded == 3
    invariants.check(store, wid)


def test_resume_repeats_only_ephemeral_steps_it_needs(marks: Marks, wid: str, store: Store) -> None:
    made = make.options(checkpoint=False).step(marks, 10)
    with pytest.raises(ValueError, match="no luck"):
        total_in_second_attempt.step(marks, doubled.options(checkpoint=False).step(marks, made)).run(wid)
    assert ray.get(workflow.resume(wid)) == 90
    assert marks.starts() == {"make": 2, "doubled": 2, "total": 2}
    invariants.check(store, wid)


def test_resume_skips_ephemeral_step_with_stored_consumers(marks: Marks, wid: str, store: Store) -> None:
    made = make.options(checkpoint=False).step(marks, 10)
    with pytest.raises(ValueError, match="no luck"):
        total_in_second_attempt.step(marks, doubled.step(marks, made)).run(wid)
    assert ray.get(workflow.resume(wid)) == 90
    assert marks.starts() == {"make": 1, "doubled": 1, "total": 2}
    invariants.check(store, wid)


def test_ephemeral_value_of_a_dead_worker_is_produced_again(marks: Marks, wid: str, store: Store) -> None:
    @workflow.step(checkpoint=False)
    def held(marks: Marks) -> Any:
        marks.started("held")
        return os.getpid(), np.ones(LARGE)

    # Another runtime_env forces another process. Without it, the step might get the process of the first step.
    @workflow.step(num_cpus=0.5, runtime_env={"env_vars": {"PROCESS": "another"}})
    def kills(marks: Marks, value: Any) -> str:
        marks.started("kills")
        os.kill(value[0], signal.SIGKILL)
        task = context.current_step()
        assert task is not None
        (published,) = task.ephemeral_inputs.values()
        until(lambda: is_lost(published.ref), timeout=30)  # Ray notices the death after a moment
        return "killed"

    @workflow.step
    def size(value: Any, killed: str) -> int:
        return len(value[1])

    value = held.options(name="held").step(marks)
    assert size.step(value, kills.step(marks, value)).run(wid) == LARGE
    assert marks.starts() == {"held": 2, "kills": 1}
    assert recorded(store, wid, r.StepEphemeralLost) == ["held"]
    invariants.check(store, wid)


def test_value_of_the_workflow_is_stored_without_checkpoint(marks: Marks, wid: str) -> None:
    make.options(checkpoint=False).step(marks, 3).run(wid)
    assert list(ray.get(workflow.get_output(wid))) == [0, 1, 2]
    assert marks.starts() == {"make": 1}


def test_returned_steps_inherit_checkpoint_unless_given(marks: Marks, wid: str, store: Store) -> None:
    @workflow.step
    def outer(marks: Marks) -> Any:
        inherits = make.options(name="inherits").step(marks, 3)
        return doubled.options(name="output").step(
            marks, doubled.options(name="explicit", checkpoint=True).step(marks, inherits)
        )

    total.options(name="last").step(outer.options(name="outer", checkpoint=False).step(marks)).run(wid)
    assert recorded(store, wid, r.StepReturnedEphemeral) == ["outer/inherits", "outer/output"]
    assert recorded(store, wid, r.StepExpanded) == ["outer"]
    assert recorded(store, wid, r.StepCommitted) == ["outer/explicit", "last"]
    invariants.check(store, wid)


def test_get_output_of_an_ephemeral_step_is_refused(marks: Marks, wid: str) -> None:
    @workflow.step
    def first_of(pair: Any) -> Any:
        return pair[0]

    made = make.options(name="made", checkpoint=False, catch_exceptions=True).step(marks, 3)
    assert list(first_of.step(made).run(wid)) == [0, 1, 2]
    assert workflow.get_metadata(wid, "made")["step_options"]["checkpoint"] is False
    with pytest.raises(
        InvalidInputError, match=r"value of step 'made' .* is not stored: the step has checkpoint=False"
    ):
        ray.get(workflow.get_output(wid, name="made"))


@pytest.mark.parametrize("bad", ["no", 0, 1])
def test_checkpoint_option_that_is_not_a_bool_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="checkpoint must be True, False or None"):
        make.options(checkpoint=bad)
