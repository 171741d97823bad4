"""A process that `large_value.py` measures: one array is an argument of many steps. It prints one JSON line.

subject_shared.py STORE BYTES
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]
import numpy as np
import ray

import workflow
from workflow.store import open_store

STEPS = 20


@workflow.step
def size_of(given: dict[str, Any]) -> int:
    return int(given["array"].nbytes)


@workflow.step
def gather(sizes: list[int]) -> int:
    return sum(sizes)


def stored(url: str) -> int:
    """Return the number of bytes in a store."""
    store = open_store(url)
    try:
        return sum(info.size for info in store.list("workflows/"))
    finally:
        store.close()


def main(url: str, size: int) -> None:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    workflow.init(url)
    array = np.full(size // 8, 7.0)
    gather.step([size_of.step({"array": array[:10]})]).run()  # the start of a manager does not count
    before, started = stored(url), time.perf_counter()
    composed = gather.step([size_of.step({"number": number, "array": array}) for number in range(STEPS)])
    stepped = time.perf_counter()
    result = composed.run_async()
    created = time.perf_counter()
    if ray.get(result) != STEPS * array.nbytes:
        raise SystemExit("a step got another array")
    ended = time.perf_counter()
    seconds = {"step": stepped - started, "run": created - stepped, "execute": ended - created}
    print(json.dumps({"stored": stored(url) - before, **seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
