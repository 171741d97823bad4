"""Two managers, each a process, are released together at one run's claim, a hundred times: one winner each time."""

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
from tests.faults.lives import PACE, PROCESSES
from tests.faults.shapes import SHAPES
from tests.support import runs
from tests.support.checker import Expected, check
from tests.support.fake_runner import FakeRunner
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
PATIENCE = 60.0


@dataclass
class Place:
    """A store, and how a test reads all of it."""

    url: str
    secret: tuple[str, str] | None
    objects: Callable[[], dict[str, bytes]]

    def open(self) -> Store:
        """The store."""
        return open_store(self.url, **dict(zip(("access_key", "secret_key"), self.secret or (), strict=False)))


@pytest.fixture(params=["folder", "minio"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of store."""
    if request.param == "folder":
        return Place(str(tmp_path), None, lambda: in_folder(tmp_path))
    server: MinioServer = request.getfixturevalue("minio_server")
    bucket: str = request.getfixturevalue("bucket")
    return Place(
        f"s3://{bucket}/root?endpoint={server.endpoint}",
        (server.access_key, server.secret_key),
        lambda: in_bucket(client_of(server), bucket, "root"),
    )


@dataclass
class Together:
    """Both rivals have seen that the run is free before either writes its claim."""

    barrier: Barrier

    def reach(self, point: str) -> None:
        """See the port."""
        if point == BEFORE_CLAIM:
            self.barrier.wait(PATIENCE)


def _rival(place: tuple[str, tuple[str, str] | None], name: str, barrier: Barrier, answers: Any) -> None:
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(_race(Place(*place, objects=dict), name, barrier, answers))
    except BaseException:  # noqa: BLE001 - whatever it was, the test shows it
        barrier.abort()
        answers.put((-1, name, traceback.format_exc()))


async def _race(place: Place, name: str, barrier: Barrier, answers: Any) -> None:
    store = place.open()

    def blobs(task: StepTask) -> Blobs:
        return Blobs(store, RunPaths(task.run.workflow_id, task.run.run_number, task.run.run_uuid))

    me = Owner(name, name, f"address-{name}")
    manager = Manager(store, me, FakeRunner(SHAPE.script(blobs)), PACE, Together(barrier))
    await manager.begin()
    for number in range(ROUNDS):
        try:
            await manager.claim(ClaimRequest(f"race-{number}", 1))
        except (WorkflowInUseError, WorkflowConflictError):  # it lives, or has ended meanwhile
            answers.put((number, name, "refused"))
            continue
        await manager.wait(RunAddress(place.url, f"race-{number}", 1, f"run-{number}"))
        answers.put((number, name, "won"))
    await manager.leave()


def test_one_winner_each_time(place: Place) -> None:
    store = place.open()
    for number in range(ROUNDS):
        owner = Owner("gone", "gone")
        created = runs.created(SHAPE.dag, f"race-{number}", run_uuid=f"run-{number}", owner=owner)
        RunLog(store, created).blobs.put(b"a function")
        registry.register(store, created)
    barrier, answers = PROCESSES.Barrier(2), PROCESSES.Queue()
    rivals = [
        PROCESSES.Process(target=_rival, args=((place.url, place.secret), name, barrier, answers)) for name in "ab"
    ]
    for rival in rivals:
        rival.start()
    told: list[tuple[int, str, str]] = []
    try:
        while len(told) < 2 * ROUNDS:
            told.append(answers.get(timeout=PATIENCE))
            assert told[-1][0] >= 0, told[-1][2]
        for rival in rivals:
            rival.join(PATIENCE)
    finally:
        for rival in rivals:
            rival.kill()
            rival.join()
    assert [rival.exitcode for rival in rivals] == [0, 0]
    assert Counter(number for number, _, verdict in told if verdict == "won") == dict.fromkeys(range(ROUNDS), 1), told
    assert Counter(number for number, _, verdict in told if verdict == "refused") == dict.fromkeys(range(ROUNDS), 1)
    winners = {number: name for number, name, verdict in told if verdict == "won"}
    objects = place.objects()
    for number in range(ROUNDS):
        history = check(objects, f"race-{number}", expected=Expected(SHAPE.oracle()))
        assert history.claims == {1: 0, 2: 1}
        first = f"workflows/race-{number}/runs/1-run-{number}/log/{1:020d}"
        assert parsed(first, objects[first])[1][0]["owner"]["manager"] == winners[number]
