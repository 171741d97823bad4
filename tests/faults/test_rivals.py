"""Two manager processes claim one run at the same moment, a hundred times. Exactly one wins each time."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from dev.minio_server import MinioServer
from tests.faults.manager_process import FORKSERVER, PACE
from tests.faults.shapes import SHAPES
from tests.support import runs
from tests.support.checker import check
from tests.support.fake_runner import FakeRunner
from tests.support.history import Expected
from tests.support.minio import client_of
from tests.support.stored import in_bucket, in_folder, parsed
from workflow.engine.messages import RunAddress, StepTask
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.errors import WorkflowConflictError, WorkflowInUseError
from workflow.log import registry
from workflow.log.blobs import Blobs
from workflow.log.failpoints import BEFORE_CLAIM
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.model.run_view import Owner
from workflow.store import Store, open_store

ROUNDS = 100
SHAPE = SHAPES["chain"]
TIMEOUT = 60.0


@dataclass
class StoreUnderTest:
    """One kind of store.

    Attributes:
        url: the address of the store.
        credentials: arguments of `open_store`.
        objects: returns all keys and their content.
    """

    url: str
    credentials: dict[str, str]
    objects: Callable[[], dict[str, bytes]]

    def open(self) -> Store:
        """Open the store."""
        return open_store(self.url, **self.credentials)


@pytest.fixture(params=["folder", "MinIO"])
def tested(request: pytest.FixtureRequest, tmp_path: Path) -> StoreUnderTest:
    """Return each kind of store in turn."""
    if request.param == "folder":
        return StoreUnderTest(str(tmp_path), {}, lambda: in_folder(tmp_path))
    server: MinioServer = request.getfixturevalue("minio_server")
    bucket: str = request.getfixturevalue("bucket")
    return StoreUnderTest(
        f"s3://{bucket}/root?endpoint={server.endpoint}",
        {"access_key": server.access_key, "secret_key": server.secret_key},
        lambda: in_bucket(client_of(server), bucket, "root"),
    )


@dataclass
class ClaimTogether:
    """Makes both rivals wait for each other before their claim, when both have seen that the run can be claimed."""

    barrier: Barrier

    def reach(self, point: str) -> None:
        if point == BEFORE_CLAIM:
            self.barrier.wait(TIMEOUT)


def _rival(url: str, credentials: dict[str, str], name: str, barrier: Barrier, results: Any) -> None:
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(_race(StoreUnderTest(url, credentials, objects=dict), name, barrier, results))
    except BaseException:  # noqa: BLE001 - the test reports every error
        barrier.abort()
        results.put((-1, name, traceback.format_exc()))


async def _race(tested: StoreUnderTest, name: str, barrier: Barrier, results: Any) -> None:
    store = tested.open()

    def blobs(task: StepTask) -> Blobs:
        return Blobs(store, RunPaths(task.run.workflow_id, task.run.run_number, task.run.run_uuid))

    me = Owner(name, name, f"address-{name}")
    manager = Manager(store, me, FakeRunner(SHAPE.script(blobs)), PACE, ClaimTogether(barrier))
    await manager.begin()
    for number in range(ROUNDS):
        try:
            await manager.claim(ClaimRequest(f"race-{number}", 1))
        except (WorkflowInUseError, WorkflowConflictError):  # the other rival owns the run, or has finished it
            results.put((number, name, "refused"))
            continue
        await manager.wait(RunAddress(tested.url, f"race-{number}", 1, f"run-{number}"))
        results.put((number, name, "won"))
    await manager.leave()


def test_exactly_one_claim_wins_each_race(tested: StoreUnderTest) -> None:
    store = tested.open()
    for number in range(ROUNDS):
        owner = Owner("gone", "gone")
        created = runs.created(SHAPE.dag, f"race-{number}", run_uuid=f"run-{number}", owner=owner)
        RunLog(store, created).blobs.put(b"a function")
        registry.register(store, created)
    barrier, queue = FORKSERVER.Barrier(2), FORKSERVER.Queue()
    rivals = [
        FORKSERVER.Process(target=_rival, args=(tested.url, tested.credentials, name, barrier, queue)) for name in "ab"
    ]
    for rival in rivals:
        rival.start()
    results: list[tuple[int, str, str]] = []
    try:
        while len(results) < 2 * ROUNDS:
            results.append(queue.get(timeout=TIMEOUT))
            number, _, error = results[-1]
            assert number >= 0, error
        for rival in rivals:
            rival.join(TIMEOUT)
    finally:
        for rival in rivals:
            rival.kill()
            rival.join()
    assert [rival.exitcode for rival in rivals] == [0, 0]
    once_each = dict.fromkeys(range(ROUNDS), 1)
    assert Counter(number for number, _, verdict in results if verdict == "won") == once_each, results
    assert Counter(number for number, _, verdict in results if verdict == "refused") == once_each
    winners = {number: name for number, name, verdict in results if verdict == "won"}
    objects = tested.objects()
    for number in range(ROUNDS):
        history = check(objects, f"race-{number}", expected=Expected(SHAPE.oracle()))
        assert history.claims == {1: 0, 2: 1}
        first = f"workflows/race-{number}/runs/1-run-{number}/log/{1:020d}"
        assert parsed(first, objects[first])[1][0]["owner"]["manager"] == winners[number]
