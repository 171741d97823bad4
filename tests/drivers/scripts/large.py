"""Passes one large value of each kind from a step to the next, and prints the memory used, one JSON line for each kind.

large.py STORE BYTES
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from user import connect

import workflow
from tests.support.memory import MeasureStart, MemoryAtStart, manager_pid, memory, reset_peak

MAKE = {
    "bytes": lambda size: b"\7" * size,
    "array": lambda size: np.full(size // 8, 7.0),
}
LOOK = {
    "bytes": lambda value: value.count(b"\7"),
    "array": lambda value: int(np.count_nonzero(value)) * 8,
}


@workflow.step
def produce(start: MemoryAtStart, kind: str, size: int) -> Any:
    return {"start": start, "value": MAKE[kind](size), "made": time.time()}


@workflow.step
def consume(start: MemoryAtStart, kind: str, produced: Any) -> Any:
    loaded = time.time()
    seen = LOOK[kind](produced["value"])
    producer = produced["start"]
    here = memory(start.pid, "VmHWM")
    if producer.pid == start.pid:  # one worker executed both steps: compare with its memory before each step
        growth = producer.growth(start.peak_before), producer.growth(here)
    else:
        growth = producer.growth(memory(producer.pid, "VmHWM")), start.growth(here)
    seconds = start.at - produced["made"], loaded - start.at
    names = ("seen", "producer", "consumer", "store_seconds", "load_seconds")
    return dict(zip(names, (seen, *growth, *seconds), strict=True))


def main(store: str, size: int) -> None:
    connect()
    workflow.init(store)
    for kind in MAKE:
        # A small value first, so that memory for imports does not count.
        consume.step(MeasureStart(), kind, produce.step(MeasureStart(), kind, 1_000)).run()
        manager = manager_pid()
        reset_peak(manager)
        before = memory(manager, "VmRSS")
        figures = consume.step(MeasureStart(), kind, produce.step(MeasureStart(), kind, size)).run()
        print(json.dumps({"kind": kind, **figures, "manager": memory(manager, "VmHWM") - before}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
