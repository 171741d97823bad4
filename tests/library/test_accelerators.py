"""A step with an accelerator frees its memory: its process ends after the step, as that of a Ray task with a GPU."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest
import ray

import workflow
from tests.support.waiting import until
from workflow.engine.driver.discovery import fingerprint
from workflow.log.blobs import INLINE_LIMIT

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step(num_gpus=1)
def train(after: Any = None) -> list[int]:
    return [*(after or []), os.getpid()]


@workflow.step
def plain() -> int:
    return os.getpid()


def wait_for_the_end_of(pid: int) -> None:
    """Wait until a process has ended. An idle worker of Ray would live much longer."""
    until(lambda: not psutil.pid_exists(pid), 10.0)


@pytest.mark.parametrize("options", [{"num_gpus": 1}, {"num_gpus": 0.25}, {"max_calls": 1}], ids=str)
def test_process_of_the_step_ends_after_it(options: dict[str, Any], wid: str) -> None:
    pid = plain.options(**options).step().run(wid)
    wait_for_the_end_of(pid)
    assert ray.get(workflow.get_output(wid)) == pid


def test_ray_task_gets_the_gpu_after_the_step() -> None:
    @ray.remote(num_gpus=1)
    def uses_gpu() -> int:
        return os.getpid()

    (pid,) = train.step().run()
    assert ray.get(uses_gpu.remote(), timeout=30) != pid
    wait_for_the_end_of(pid)


def test_steps_with_a_gpu_share_no_process() -> None:
    pids = train.step(train.step(train.step())).run()
    assert len(set(pids)) == 3


def test_steps_without_a_gpu_share_a_process() -> None:
    until(lambda: plain.step().run() == plain.step().run(), 60.0)  # not always: Ray may choose another idle process


def test_large_ephemeral_value_does_not_keep_the_process() -> None:
    @workflow.step(num_gpus=1, checkpoint=False)
    def produce() -> tuple[int, bytes]:
        return os.getpid(), b"x" * 2 * INLINE_LIMIT

    @workflow.step(num_gpus=1)
    def consume(produced: tuple[int, bytes]) -> int:
        pid, data = produced
        wait_for_the_end_of(pid)
        return len(data)

    assert consume.step(produce.step()).run() == 2 * INLINE_LIMIT


def test_failed_step_with_a_gpu_ends_its_process(wid: str) -> None:
    @workflow.step(num_gpus=1, max_retries=2)
    def fails() -> int:
        raise RuntimeError(str(os.getpid()))

    with pytest.raises(RuntimeError) as error:
        fails.step().run(wid)
    wait_for_the_end_of(int(str(error.value)))


def test_workflow_in_a_captured_placement_group_runs(storage: str) -> None:
    """The manager of such a caller is created outside of the group, which has no room for it."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @ray.remote(runtime_env={"env_vars": {"ANOTHER": "manager"}})
    def launches(store: str) -> tuple[int, str]:
        workflow.init(store)
        return plain.step().run(), fingerprint(store)

    group = placement_group([{"CPU": 1}])
    ray.get(group.ready())
    captured = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
    pid, manager = ray.get(launches.options(scheduling_strategy=captured).remote(storage), timeout=60)
    assert pid > 0
    assert manager != fingerprint(storage)
    remove_placement_group(group)
