"""A subject that `run.py` measures: this library. The argument is the address of the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import shapes

import workflow


@workflow.step
def inc(x: int) -> int:
    return x + 1


@workflow.step
def gather(values: list[int]) -> int:
    return sum(values)


@workflow.step
def recurse(n: int) -> Any:
    return inc.step(recurse.step(n - 1)) if n else 0


def run(shape: str, size: int) -> int:
    if shape == "chain":
        composed = inc.step(0)
        for _ in range(size - 1):
            composed = inc.step(composed)
        return composed.run()
    if shape == "fan-out":
        return gather.step([inc.step(i) for i in range(size)]).run()
    return int(recurse.step(size).run())


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    workflow.init(sys.argv[1])
    shapes.serve(run)
