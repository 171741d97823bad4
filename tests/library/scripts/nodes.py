"""Steps on two nodes: ephemeral values that move between them, and steps that only the far node can execute.

nodes.py STORE MARKS WORKFLOW_ID (crossing | lost | bound) FAR

FAR is a resource that only the far node has.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from user import connect

import workflow
from tests.support.marks import Marks

SIZE = 300_000
"""How many numbers make a value of more than two megabytes. Its node keeps it in Ray's object store."""

WORKS, HELD_FROM = 12, 6


@workflow.step
def make(marks: Marks) -> Any:
    marks.started(f"make on {where()}")
    return np.arange(SIZE)


@workflow.step
def doubled(marks: Marks, values: Any) -> Any:
    marks.started(f"doubled on {where()}")
    return values * 2


@workflow.step
def hold(marks: Marks) -> int:
    marks.started("hold")
    marks.pass_gate("hold")
    return 1


@workflow.step
def last(marks: Marks, made: Any, twice: Any, held: int) -> int:
    marks.started(f"last on {where()}")
    return int(made.sum()) + int(twice.sum()) + held


@workflow.step
def work(marks: Marks, n: int) -> int:
    marks.started(f"work{n}")
    if n >= HELD_FROM:
        marks.pass_gate("work")
    return n


@workflow.step
def total(values: list[int]) -> int:
    return sum(values)


def where() -> str:
    """Return the node of the calling step: "near" is the head node."""
    own = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == own)
    return "near" if "node:__internal_head__" in resources else "far"


def crossing(marks: Marks, far: str) -> Any:
    """Pass a value from the far node to the near one, and back."""
    near, across = places(far)
    return passed(marks, across, near, across)


def lost(marks: Marks, far: str) -> Any:
    """Produce both values on the far node; the last step needs them on the near node."""
    near, across = places(far)
    return passed(marks, across, across, near)


def passed(marks: Marks, first: Any, second: Any, third: Any) -> Any:
    made = make.options(name="make", checkpoint=False, scheduling_strategy=first).step(marks)
    twice = doubled.options(name="doubled", checkpoint=False, scheduling_strategy=second).step(marks, made)
    return last.options(name="last", scheduling_strategy=third).step(marks, made, twice, hold.step(marks))


def places(far: str) -> list[NodeAffinitySchedulingStrategy]:
    """Strategies for the near and the far node. If the node is gone, the step runs elsewhere."""
    here = ray.get_runtime_context().get_node_id()
    (there,) = (node["NodeID"] for node in ray.nodes() if far in node["Resources"])
    return [NodeAffinitySchedulingStrategy(each, soft=True) for each in (here, there)]


def bound(marks: Marks, far: str) -> Any:
    return total.step([work.options(name=f"work{n}", resources={far: 1}).step(marks, n) for n in range(WORKS)])


PASSED = 3 * SIZE * (SIZE - 1) // 2 + 1
SHAPES = {"crossing": (crossing, PASSED), "lost": (lost, PASSED), "bound": (bound, sum(range(WORKS)))}


def main(store: str, folder: str, workflow_id: str, shape: str, far: str) -> None:
    connect()
    workflow.init(store)
    build, expected = SHAPES[shape]
    value = build(Marks(folder), far).run(workflow_id)
    print("result", value, "as expected" if value == expected else "WRONG", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
