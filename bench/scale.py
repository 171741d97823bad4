"""`make scale`: one run of many steps, and many runs at once: rates, the manager's memory, replay, storage requests.

Prints tables; asserts only that every run gave its value. The manager's memory is its own process's, as the kernel
counts it: the most it held during the run (VmHWM, reset before) beyond what it held before.
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
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
import psutil
import ray
from minio import Minio
from run import COUNTED_EVERY, requests_served, say
from subject_ours import gather, inc

import workflow
from dev.minio_server import MinioServer
from tests.support.memory import KIB, manager_pid, memory, reset_peak
from workflow.engine.driver import discovery
from workflow.log.keys import MANAGERS
from workflow.store import open_store

SIZES = (10_000, 20_000, 40_000, 100_000)
RUNS = 1_000
SHAPES = {"a chain of 10": (1, 10), "100 abreast": (100, 1)}
"""What each of them is: how many chains, and of how many steps."""
ASLEEP = 60.0
"""Seconds from the first run's beginning to the end of everybody's sleep."""


def fan_out(size: int, workflow_id: str) -> None:
    total = gather.step([inc.step(i) for i in range(size)]).run(workflow_id)
    assert total == size * (size + 1) // 2, f"{workflow_id} gave {total}"


def replay_seconds(storage: str, workflow_id: str) -> float:
    """In a process of its own, as a claimant would."""
    code = (
        "import sys, time\n"
        "from workflow.log import naming\n"
        "from workflow.log.run_log import RunLog\n"
        "from workflow.store import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "begun = time.perf_counter()\n"
        "state = RunLog(store, naming.current(store, sys.argv[2])).replay()\n"
        "print(time.perf_counter() - begun)\n"
        "assert state.output.outcome is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, storage, workflow_id],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parents[1],
    )
    return float(done.stdout)


def grow(storage: str, sizes: Sequence[int]) -> None:
    """One run of more and more steps."""
    fan_out(1_000, "warm")
    pid = manager_pid()
    heads = ("one fan-out of", "seconds", "steps/s", "KiB a step", "replay s", "us a step")
    print("\n" + "".join(f"{head:>16}" for head in heads))
    for size in sizes:
        before = memory(pid, "VmRSS")
        reset_peak(pid)
        begun = time.perf_counter()
        fan_out(size, f"fan-{size}")
        seconds = time.perf_counter() - begun
        held = (memory(pid, "VmHWM") - before) / size / KIB
        replay = replay_seconds(storage, f"fan-{size}")
        figures = (
            f"{seconds:.1f}",
            f"{size / seconds:.0f}",
            f"{held:.2f}",
            f"{replay:.2f}",
            f"{1e6 * replay / size:.0f}",
        )
        print(f"{size:>16}" + "".join(f"{figure:>16}" for figure in figures), flush=True)


@workflow.step
def begin(number: int, slept: None) -> int:
    return number


def most_at_once(storage: str) -> int:
    """Runs that the manager said it owns, in a heartbeat."""
    store = open_store(storage)
    told = [store.get(info.key) for info in store.list(MANAGERS)]
    return max(json.loads(each)["runs"] for each in told if each is not None)


def end_manager(storage: str) -> None:
    """What it has freed for itself would not count where it is used again."""
    process = psutil.Process(manager_pid())
    ray.kill(discovery.find(f"manager-{discovery.fingerprint(storage)}"), no_restart=True)
    process.wait(30)


def crowd(storage: str, shape: str) -> None:
    """Many runs at once in one new manager: each sleeps first, so that all are there together."""
    chains, long = SHAPES[shape]
    end_manager(storage)
    fan_out(100, f"warm-{chains}")
    pid = manager_pid()
    before = memory(pid, "VmRSS")
    reset_peak(pid)
    begun = time.perf_counter()
    pending = []
    for number in range(RUNS):
        first = begin.step(number, workflow.sleep(ASLEEP - (time.perf_counter() - begun)))
        ends = [first] * chains
        for _ in range(long):
            ends = [inc.step(each) for each in ends]
        pending.append(gather.step(ends).run_async(f"crowd-{chains}-{number}"))
    started = time.perf_counter() - begun
    ray.wait(pending, num_returns=1)
    together = most_at_once(storage)
    values = ray.get(pending)
    seconds = time.perf_counter() - begun
    assert values == [chains * (number + long) for number in range(RUNS)]
    held = (memory(pid, "VmHWM") - before) / RUNS / KIB
    steps = chains * long + 3
    print(
        f"\n{RUNS} runs of {steps} steps, {shape}, in one manager, {together} of them at once: asked for in "
        f"{started:.1f} s, which is {RUNS / started:.0f} runs/s; behind their sleep done in {seconds - ASLEEP:.1f} s, "
        f"which is {RUNS * (steps - 1) / (seconds - ASLEEP):.0f} steps/s; {held:.1f} KiB a run in the manager, "
        f"{held / steps:.2f} a step",
        flush=True,
    )


def callers(storage: str) -> None:
    """Many who wait for one run: what Ray itself holds in the manager for each call that is under way."""
    end_manager(storage)
    fan_out(100, "warm-callers")
    begin.step(7, workflow.sleep(ASLEEP)).run_async("awaited")
    pid = manager_pid()
    before = memory(pid, "VmRSS")
    reset_peak(pid)
    assert ray.get([workflow.get_output_async("awaited") for _ in range(RUNS)]) == [7] * RUNS
    held = (memory(pid, "VmHWM") - before) / RUNS / KIB
    print(f"\n{RUNS} who wait for one run: {held:.1f} KiB each in the manager, which is Ray's own", flush=True)


def count_requests(server: MinioServer, size: int) -> None:
    """What one large fan-out asks of the store."""
    fan_out(100, "warm-minio")
    time.sleep(COUNTED_EVERY)
    before = requests_served(server)
    begun = time.perf_counter()
    fan_out(size, f"fan-{size}-minio")
    seconds = time.perf_counter() - begun
    time.sleep(COUNTED_EVERY)
    asked = requests_served(server) - before
    print(
        f"\nfan-out of {size} on MinIO: {seconds:.1f} s, {size / seconds:.0f} steps/s, {asked:.0f} requests in all, "
        f"{asked / size:.4f} a step",
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
        say("one run of many steps, on a folder")
        workflow.init(folder)
        grow(folder, sizes)
        say("many runs at once, on a folder")
        for shape in SHAPES:
            crowd(folder, shape)
        callers(folder)
        end_manager(folder)
        say("requests, on MinIO")
        host = server.endpoint.removeprefix("http://")
        client = Minio(host, server.access_key, server.secret_key, secure=False, region="us-east-1")
        client.make_bucket("scale")
        workflow.init(f"s3://scale/runs?endpoint={server.endpoint}&region=us-east-1")
        count_requests(server, 10_000)
        ray.shutdown()


if __name__ == "__main__":
    main()
