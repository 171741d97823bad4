"""Runs a workflow on two nodes. test_two_nodes.py starts it, and kills the far node in some tests.

nodes.py STORE MARKS WORKFLOW_ID (values-move | values-far | steps-far) FAR

The near node is the head node. FAR is a resource that only the far node has.
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

STEPS = 12
"""The number of steps that only the far node can execute."""

FIRST_WITH_GATE = 6
"""The first of these steps that waits at the gate, and all later ones."""


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
def last(marks: Marks, values: Any, twice: Any, one: int) -> int:
    marks.started(f"last on {where()}")
    return int(values.sum()) + int(twice.sum()) + one


@workflow.step
def work(marks: Marks, n: int) -> int:
    marks.started(f"work{n}")
    if n >= FIRST_WITH_GATE:
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


def values_move(marks: Marks, far: str) -> Any:
    """Compose a workflow that passes a value from the far node to the near one, and the result back."""
    on_near, on_far = strategies(far)
    return chain(marks, on_far, on_near, on_far)


def values_far(marks: Marks, far: str) -> Any:
    """Compose a workflow that makes both values on the far node, and needs them on the near node in the last step."""
    on_near, on_far = strategies(far)
    return chain(marks, on_far, on_far, on_near)


def chain(marks: Marks, first: Any, second: Any, third: Any) -> Any:
    """Compose `make`, `doubled` and `last` with a scheduling strategy each. `last` waits for `hold`, too."""
    values = make.options(name="make", checkpoint=False, scheduling_strategy=first).step(marks)
    twice = doubled.options(name="doubled", checkpoint=False, scheduling_strategy=second).step(marks, values)
    return last.options(name="last", scheduling_strategy=third).step(marks, values, twice, hold.step(marks))


def strategies(far: str) -> list[NodeAffinitySchedulingStrategy]:
    """Return the scheduling strategies for the near and the far node. If the node is dead, the step runs elsewhere."""
    near_id = ray.get_runtime_context().get_node_id()
    (far_id,) = (node["NodeID"] for node in ray.nodes() if far in node["Resources"])
    return [NodeAffinitySchedulingStrategy(node_id, soft=True) for node_id in (near_id, far_id)]


def steps_far(marks: Marks, far: str) -> Any:
    """Compose a workflow of steps that only the far node can execute."""
    return total.step([work.options(name=f"work{n}", resources={far: 1}).step(marks, n) for n in range(STEPS)])


CHAIN_RESULT = 3 * SIZE * (SIZE - 1) // 2 + 1
SHAPES = {
    "values-move": (values_move, CHAIN_RESULT),
    "values-far": (values_far, CHAIN_RESULT),
    "steps-far": (steps_far, sum(range(STEPS))),
}


def main(store: str, folder: str, workflow_id: str, shape: str, far: str) -> None:
    connect()
    workflow.init(store)
    build, expected = SHAPES[shape]
    value = build(Marks(folder), far).run(workflow_id)
    print("result", value, "as expected" if value == expected else "WRONG", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
