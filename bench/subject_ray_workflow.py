"""A subject that `run.py` measures: `ray.workflow` of Ray 2.47, the last version that has it.

It runs in a separate Python environment with that version. The argument is the folder in which `ray.workflow` stores
its data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray import workflow

sys.path.insert(0, str(Path(__file__).parent))
import shapes


@ray.remote
def inc(x: int) -> int:
    return x + 1


@ray.remote
def gather(*values: int) -> int:
    return sum(values)


@ray.remote
def recurse(n: int) -> Any:
    return workflow.continuation(inc.bind(recurse.bind(n - 1))) if n else 0


def run(shape: str, size: int) -> int:
    if shape == "chain":
        composed = inc.bind(0)
        for _ in range(size - 1):
            composed = inc.bind(composed)
        return int(workflow.run(composed))
    if shape == "fan-out":
        return int(workflow.run(gather.bind(*[inc.bind(i) for i in range(size)])))
    return int(workflow.run(recurse.bind(size)))


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, storage=sys.argv[1])
    workflow.init()
    shapes.serve(run)
