"""`make profile`: where the time of a step that does nothing goes, on a folder and on MinIO; what parts cost alone."""

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
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
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
TIMES = 300


def micros(call: Callable[[int], Any]) -> float:
    """Of one call, median."""
    spans = []
    for number in range(TIMES):
        begun = time.perf_counter()
        call(number)
        spans.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(spans)


def profiled(storage: str) -> Any:
    """The manager that this process's runs on that store will meet."""
    workflow.init(storage)
    url = open_store(storage).url
    name = f"manager-{discovery.fingerprint(url)}"
    remote = ray.remote(num_cpus=0, concurrency_groups=discovery.GROUPS)(ProfiledManager)
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "max_concurrency": discovery.CALLS}
    return remote.options(**options).remote(url, uuid.uuid4().hex, name)


def chain() -> None:
    composed = inc.step(0)
    for _ in range(CHAIN - 1):
        composed = inc.step(composed)
    assert composed.run() == CHAIN


def show(where: str, storage: str) -> None:
    manager = profiled(storage)
    chain()
    ray.get(manager.parts.remote())
    begun = time.perf_counter()
    chain()
    seconds = time.perf_counter() - begun
    print(f"\nchain on {where}: {CHAIN / seconds:.0f} steps/s, {1e6 * seconds / CHAIN:.0f} us a step, start included")
    for name, span in ray.get(manager.parts.remote()).items():
        print(f"  {name:<58}{span:>8.0f} us")
    store = open_store(storage)
    floor = micros(lambda number: store.create(f"floor/{number:06d}", b"x" * 700, "0" * 32))
    print(f"  {'floor: create one object of that size, nothing else':<58}{floor:>8.0f} us")
    ray.kill(manager, no_restart=True)


@ray.remote
def nothing(x: int) -> int:
    return x


@ray.remote(num_cpus=0)
class Nobody:
    async def nothing(self, x: int) -> int:
        return x


def main() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as folder, MinioServer() as server:
        os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        host = server.endpoint.removeprefix("http://")
        Minio(host, server.access_key, server.secret_key, secure=False, region="us-east-1").make_bucket("profile")
        show("a folder", folder)
        show("MinIO", f"s3://profile/runs?endpoint={server.endpoint}&region=us-east-1")
        nobody = Nobody.remote()
        print("\nfloors of Ray, one at a time")
        print(f"  {'a task and its result':<58}{micros(lambda x: ray.get(nothing.remote(x))):>8.0f} us")
        print(f"  {'a call of an async actor':<58}{micros(lambda x: ray.get(nobody.nothing.remote(x))):>8.0f} us")
        ray.shutdown()


if __name__ == "__main__":
    main()
