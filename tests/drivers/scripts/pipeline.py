"""Eleven steps, some returned by others, that mark their starts. A gate holds one of them.

pipeline.py STORE MARKS WORKFLOW_ID (run | start | resume | resume-all | take-over)
"""

from __future__ import annotations

import sys
from typing import Any

import ray
from user import connect

import workflow
from tests.support.marks import Marks
from tests.support.pipeline import EXPECTED


@workflow.step
def load(marks: Marks, n: int) -> list[int]:
    marks.started(f"load{n}")
    return list(range(n * 20_000))


@workflow.step
def share(marks: Marks, parts: list[list[int]]) -> Any:
    marks.started("share")
    return {"ref": ray.put([sum(part) for part in parts])}


@workflow.step
def spread(marks: Marks, shared: Any) -> Any:
    marks.started("spread")
    return join.step(marks, [work.step(marks, shared, i) for i in range(4)])


@workflow.step(max_retries=2)
def work(marks: Marks, shared: Any, i: int) -> int:
    marks.started(f"work{i}")
    if i == 1 and marks.starts()["work1"] == 1:
        raise RuntimeError("the first attempt of this step always fails")
    if i == 3:
        marks.pass_gate("work")
    return sum(ray.get(shared["ref"])) + i


@workflow.step
def join(marks: Marks, values: list[int]) -> int:
    marks.started("join")
    return sum(values)


@workflow.step
def last(marks: Marks, value: int) -> int:
    marks.started("last")
    return value + 1


def dag(marks: Marks) -> Any:
    return last.step(marks, spread.step(marks, share.step(marks, [load.step(marks, n) for n in (1, 2, 3)])))


def main(store: str, folder: str, workflow_id: str, how: str) -> None:
    connect()
    workflow.init(store)
    if how == "run":
        value = dag(Marks(folder)).run(workflow_id)
    elif how == "start":
        dag(Marks(folder)).run_async(workflow_id)
        print("started", flush=True)
        return
    elif how == "resume-all":
        ((resumed, reference),) = workflow.resume_all()
        assert resumed == workflow_id
        value = ray.get(reference)
    else:
        value = ray.get(workflow.resume(workflow_id, take_over=how == "take-over"))
    print("result", value, "as expected" if value == EXPECTED else "WRONG", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
