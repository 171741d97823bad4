"""One large value from a step to the next, of each kind; says what memory it took, a line of JSON a kind.

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
from tests.support.memory import Beginning, Begun, manager_pid, memory, reset_peak

MAKE = {
    "bytes": lambda size: b"\7" * size,
    "array": lambda size: np.full(size // 8, 7.0),
}
LOOK = {
    "bytes": lambda value: value.count(b"\7"),
    "array": lambda value: int(np.count_nonzero(value)) * 8,
}


@workflow.step
def produce(begun: Begun, kind: str, size: int) -> Any:
    return {"begun": begun, "value": MAKE[kind](size), "made": time.time()}


@workflow.step
def consume(begun: Begun, kind: str, produced: Any) -> Any:
    loaded = time.time()
    seen = LOOK[kind](produced["value"])
    producer = produced["begun"]
    here = memory(begun.pid, "VmHWM")
    if producer.pid == begun.pid:  # a leased worker does both: then what it held before either of them counts
        grown = producer.grown(begun.most_before), producer.grown(here)
    else:
        grown = producer.grown(memory(producer.pid, "VmHWM")), begun.grown(here)
    seconds = begun.at - produced["made"], loaded - begun.at
    told = ("seen", "producer", "consumer", "store_seconds", "load_seconds")
    return dict(zip(told, (seen, *grown, *seconds), strict=True))


def main(store: str, size: int) -> None:
    connect()
    workflow.init(store)
    for kind in MAKE:
        consume.step(Beginning(), kind, produce.step(Beginning(), kind, 1_000)).run()  # imports count for no value
        manager = manager_pid()
        reset_peak(manager)
        before = memory(manager, "VmRSS")
        told = consume.step(Beginning(), kind, produce.step(Beginning(), kind, size)).run()
        print(json.dumps({"kind": kind, **told, "manager": memory(manager, "VmHWM") - before}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
