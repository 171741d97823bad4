"""The shapes that are timed, and the line protocol between the runner and a subject: `shape size` in, seconds out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SHAPES = {"chain": 200, "fan-out": 1000, "dynamic": 50}
"""Steps of one timed run. A dynamic recursion of depth n executes 2n + 1 steps."""


def steps_of(shape: str) -> int:
    """Step executions in one timed run of a shape."""
    size = SHAPES[shape]
    return {"chain": size, "fan-out": size + 1, "dynamic": 2 * size + 1}[shape]


def serve(run: Callable[[str, int], int]) -> None:
    """Answer the runner until it closes the pipe.

    Args:
        run: executes a shape and returns its value, which tells that it was really executed.
    """
    print("ready", flush=True)
    for line in sys.stdin:
        shape, size = line.split()[0], int(line.split()[1])
        begun = time.perf_counter()
        value = run(shape, size)
        seconds = time.perf_counter() - begun
        expected = {"chain": size, "fan-out": size * (size + 1) // 2, "dynamic": size}[shape]
        if value != expected:
            raise SystemExit(f"{shape} {size} gave {value}, not {expected}")
        print(f"seconds {seconds}", flush=True)
