"""A subject that `run.py` measures: plain Ray tasks without durability, the minimum that a step on Ray costs."""

from __future__ import annotations

import sys
from pathlib import Path

import ray

sys.path.insert(0, str(Path(__file__).parent))
import shapes


@ray.remote
def inc(x: int) -> int:
    return x + 1


def run(shape: str, size: int) -> int:
    if shape == "fan-out":
        return sum(ray.get([inc.remote(i) for i in range(size)]))
    value = 0
    for _ in range(size if shape == "chain" else 2 * size):
        value = ray.get(inc.remote(value))
    return value if shape == "chain" else value // 2


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    shapes.serve(run)
