"""`make profile`: where the time of an empty step is spent, on a folder and on MinIO, and what its parts cost alone."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import ray
from minio import Minio
from profiled import ProfiledManager
from subject_ours import inc

import workflow
from dev.minio_server import MinioServer
from workflow.engine.driver import discovery
from workflow.engine.driver.actor import NAMESPACE
from workflow.store import open_store

CHAIN = 300
"""Steps of the profiled run."""
CALLS = 300
"""Calls of which `microseconds` returns the median."""


def microseconds(call: Callable[[int], Any]) -> float:
    """Return the median duration of a call."""
    spans = []
    for number in range(CALLS):
        started = time.perf_counter()
        call(number)
        spans.append(time.perf_counter() - started)
    return 1e6 * statistics.median(spans)


def create_manager(storage: str) -> Any:
    """Create the manager that serves this process's runs on a store."""
    workflow.init(storage)
    url = open_store(storage).url
    name = f"manager-{discovery.fingerprint(url)}"
    remote = ray.remote(num_cpus=0, concurrency_groups=discovery.GROUPS)(ProfiledManager)
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "max_concurrency": discovery.CALLS}
    return remote.options(**options).remote(url, uuid.uuid4().hex, name)


def run_chain() -> None:
    composed = inc.step(0)
    for _ in range(CHAIN - 1):
        composed = inc.step(composed)
    assert composed.run() == CHAIN


def profile(place: str, storage: str) -> None:
    """Print the profile of a chain on a store."""
    manager = create_manager(storage)
    run_chain()  # warm up
    ray.get(manager.parts.remote())
    started = time.perf_counter()
    run_chain()
    seconds = time.perf_counter() - started
    print(f"\nchain on {place}: {CHAIN / seconds:.0f} steps/s, {1e6 * seconds / CHAIN:.0f} us per step with the start")
    for name, span in ray.get(manager.parts.remote()).items():
        print(f"  {name:<58}{span:>8.0f} us")
    store = open_store(storage)
    minimum = microseconds(lambda number: store.create(f"floor/{number:06d}", b"x" * 700, "0" * 32))
    print(f"  {'for comparison: create one object of that size':<58}{minimum:>8.0f} us")
    ray.kill(manager, no_restart=True)


@ray.remote
def empty_task(x: int) -> int:
    return x


@ray.remote(num_cpus=0)
class EmptyActor:
    async def empty_call(self, x: int) -> int:
        return x


def main() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as folder, MinioServer() as server:
        os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        host = server.endpoint.removeprefix("http://")
        Minio(host, server.access_key, server.secret_key, secure=False, region="us-east-1").make_bucket("profile")
        profile("a folder", folder)
        profile("MinIO", f"s3://profile/runs?endpoint={server.endpoint}&region=us-east-1")
        actor = EmptyActor.remote()
        print("\nRay alone, one call at a time")
        print(f"  {'a task and its result':<58}{microseconds(lambda x: ray.get(empty_task.remote(x))):>8.0f} us")
        print(
            f"  {'a call of an async actor':<58}{microseconds(lambda x: ray.get(actor.empty_call.remote(x))):>8.0f} us"
        )
        ray.shutdown()


if __name__ == "__main__":
    main()
