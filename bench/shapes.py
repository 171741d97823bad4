"""The shapes of DAGs that `run.py` measures, and the protocol between it and a subject.

The subject reads lines `<shape> <size>`, and prints `seconds <duration>` for each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SHAPES = {"chain": 200, "fan-out": 1000, "dynamic": 50}
"""Shape -> size of one measured run. A dynamic recursion of depth n executes 2n + 1 steps."""


def steps_of(shape: str) -> int:
    """Return the number of step executions in one measured run of a shape."""
    size = SHAPES[shape]
    return {"chain": size, "fan-out": size + 1, "dynamic": 2 * size + 1}[shape]


def serve(run: Callable[[str, int], int]) -> None:
    """Answer `run.py` until it closes the pipe.

    Args:
        run: executes a shape of a size and returns its value, which proves that it was executed.
    """
    print("ready", flush=True)
    for line in sys.stdin:
        shape, size = line.split()[0], int(line.split()[1])
        started = time.perf_counter()
        value = run(shape, size)
        seconds = time.perf_counter() - started
        expected = {"chain": size, "fan-out": size * (size + 1) // 2, "dynamic": size}[shape]
        if value != expected:
            raise SystemExit(f"{shape} {size} returned {value}, not {expected}")
        print(f"seconds {seconds}", flush=True)
