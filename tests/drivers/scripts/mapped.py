"""A map of 1000 steps, held by gates after 10, 50 and 99 percent of the steps.

mapped.py STORE MARKS WORKFLOW_ID (run | take-over)
"""

from __future__ import annotations

import sys
from typing import Any

import ray
from user import connect

import workflow
from tests.support.marks import Marks

SIZE = 1_000
GATES = ((100, "10"), (500, "50"), (990, "99"))
"""(first step, gate): the gate holds this step and all later ones."""


@workflow.step(name="spread")
def spread(marks: Marks) -> Any:
    marks.started("spread")
    return join.step(marks, [square.options(name=f"square{n}").step(marks, n) for n in range(SIZE)])


@workflow.step
def square(marks: Marks, n: int) -> int:
    marks.started(f"spread/square{n}")
    for first, gate in GATES:
        if n >= first:
            marks.pass_gate(gate)
    return n * n


@workflow.step(name="join")
def join(marks: Marks, values: list[int]) -> int:
    marks.started("spread/join")
    return sum(values)


def main(store: str, folder: str, workflow_id: str, how: str) -> None:
    connect()
    workflow.init(store)
    marks = Marks(folder)
    if how == "run":
        value = spread.step(marks).run(workflow_id)
    else:
        value = ray.get(workflow.resume(workflow_id, take_over=True))
    print("result", value, "as expected" if value == sum(n * n for n in range(SIZE)) else "WRONG", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
