"""`make scale`: measure one run of many steps, and many concurrent runs.

Prints rates, the manager's memory, the time of a replay and storage requests. Asserts only the values of the runs. The
manager's memory is the increase of its peak during the run (VmHWM, which is reset before) over its memory before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import psutil
import ray
from minio import Minio
from run import METRICS_REFRESH, log, requests_served
from subject_ours import gather, inc

import workflow
from dev.minio_server import MinioServer
from tests.support.memory import KIB, manager_pid, memory, reset_peak
from workflow.engine.driver import discovery
from workflow.log.keys import MANAGERS
from workflow.store import open_store

SIZES = (10_000, 20_000, 40_000, 100_000)
RUNS = 1_000
SHAPES = {"a chain of 10": (1, 10), "100 in parallel": (100, 1)}
"""Shape of the concurrent runs -> number of chains, and number of steps in each chain."""
SLEEP = 60.0
"""Seconds from the start of the first run to the end of the sleep of all runs."""


def fan_out(size: int, workflow_id: str) -> None:
    total = gather.step([inc.step(i) for i in range(size)]).run(workflow_id)
    assert total == size * (size + 1) // 2, f"{workflow_id} returned {total}"


def replay_seconds(storage: str, workflow_id: str) -> float:
    """Measure the replay of a run in a new process, as a claimant replays it."""
    code = (
        "import sys, time\n"
        "from workflow.log import registry\n"
        "from workflow.log.run_log import RunLog\n"
        "from workflow.store import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "started = time.perf_counter()\n"
        "state = RunLog(store, registry.current_entry(store, sys.argv[2])).replay()\n"
        "print(time.perf_counter() - started)\n"
        "assert state.output.outcome is not None\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, storage, workflow_id],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent,
    )
    return float(completed.stdout)


def grow(storage: str, sizes: Sequence[int]) -> None:
    """Measure runs of increasing size."""
    fan_out(1_000, "warm")
    pid = manager_pid()
    heads = ("one fan-out of", "seconds", "steps/s", "KiB per step", "replay s", "us per step")
    print("\n" + "".join(f"{head:>16}" for head in heads))
    for size in sizes:
        before = memory(pid, "VmRSS")
        reset_peak(pid)
        started = time.perf_counter()
        fan_out(size, f"fan-{size}")
        seconds = time.perf_counter() - started
        used = (memory(pid, "VmHWM") - before) / size / KIB
        replay = replay_seconds(storage, f"fan-{size}")
        figures = (
            f"{seconds:.1f}",
            f"{size / seconds:.0f}",
            f"{used:.2f}",
            f"{replay:.2f}",
            f"{1e6 * replay / size:.0f}",
        )
        print(f"{size:>16}" + "".join(f"{figure:>16}" for figure in figures), flush=True)


@workflow.step
def begin(number: int, slept: None) -> int:
    return number


def owned_runs(storage: str) -> int:
    """Return the number of runs that the manager owns, from its heartbeat."""
    store = open_store(storage)
    heartbeats = [store.get(info.key) for info in store.list(MANAGERS)]
    return max(json.loads(each)["runs"] for each in heartbeats if each is not None)


def end_manager(storage: str) -> None:
    """End the manager, because a new process has no freed memory that it could use again without growing."""
    process = psutil.Process(manager_pid())
    ray.kill(discovery.find(f"manager-{discovery.fingerprint(storage)}"), no_restart=True)
    process.wait(30)


def crowd(storage: str, shape: str) -> None:
    """Measure concurrent runs in a new manager. Each run sleeps first, so that all of them exist together."""
    chains, long = SHAPES[shape]
    end_manager(storage)
    fan_out(100, f"warm-{chains}")
    pid = manager_pid()
    before = memory(pid, "VmRSS")
    reset_peak(pid)
    started = time.perf_counter()
    pending = []
    for number in range(RUNS):
        first = begin.step(number, workflow.sleep(SLEEP - (time.perf_counter() - started)))
        ends = [first] * chains
        for _ in range(long):
            ends = [inc.step(each) for each in ends]
        pending.append(gather.step(ends).run_async(f"crowd-{chains}-{number}"))
    start_seconds = time.perf_counter() - started
    ray.wait(pending, num_returns=1)
    concurrent = owned_runs(storage)
    values = ray.get(pending)
    seconds = time.perf_counter() - started
    assert values == [chains * (number + long) for number in range(RUNS)]
    used = (memory(pid, "VmHWM") - before) / RUNS / KIB
    steps = chains * long + 3
    print(
        f"\n{RUNS} runs of {steps} steps, {shape}, in one manager, {concurrent} at once: started in "
        f"{start_seconds:.1f} s ({RUNS / start_seconds:.0f} runs/s), finished {seconds - SLEEP:.1f} s after the sleep "
        f"({RUNS * (steps - 1) / (seconds - SLEEP):.0f} steps/s), {used:.1f} KiB per run in the manager "
        f"({used / steps:.2f} per step)",
        flush=True,
    )


def callers(storage: str) -> None:
    """Measure the memory that Ray needs in the manager for each pending call, with many callers of one run."""
    end_manager(storage)
    fan_out(100, "warm-callers")
    begin.step(7, workflow.sleep(SLEEP)).run_async("awaited")
    pid = manager_pid()
    before = memory(pid, "VmRSS")
    reset_peak(pid)
    assert ray.get([workflow.get_output("awaited") for _ in range(RUNS)]) == [7] * RUNS
    used = (memory(pid, "VmHWM") - before) / RUNS / KIB
    print(f"\n{RUNS} callers that wait for one run: {used:.1f} KiB each in the manager, used by Ray", flush=True)


def count_requests(server: MinioServer, size: int) -> None:
    """Count the storage requests of one large fan-out."""
    fan_out(100, "warm-minio")
    time.sleep(METRICS_REFRESH)
    before = requests_served(server)
    started = time.perf_counter()
    fan_out(size, f"fan-{size}-minio")
    seconds = time.perf_counter() - started
    time.sleep(METRICS_REFRESH)
    requests = requests_served(server) - before
    print(
        f"\nfan-out of {size} on MinIO: {seconds:.1f} s, {size / seconds:.0f} steps/s, {requests:.0f} requests, "
        f"{requests / size:.4f} per step",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    sizes = parser.parse_args().sizes
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as folder, MinioServer() as server:
        os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        log("one run of many steps, on a folder")
        workflow.init(folder)
        grow(folder, sizes)
        log("many concurrent runs, on a folder")
        for shape in SHAPES:
            crowd(folder, shape)
        callers(folder)
        end_manager(folder)
        log("requests, on MinIO")
        host = server.endpoint.removeprefix("http://")
        client = Minio(host, server.access_key, server.secret_key, secure=False, region="us-east-1")
        client.make_bucket("scale")
        workflow.init(f"s3://scale/runs?endpoint={server.endpoint}&region=us-east-1")
        count_requests(server, 10_000)
        ray.shutdown()


if __name__ == "__main__":
    main()
