"""A set that only grows, with clients that are killed at random: acknowledged is in what is read is in what was tried.

Each client appends members to one log, by create-if-absent at the next free place, from a process of its own; the S3
store loses answers besides. What a client tried and what it was told it writes down elsewhere.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from dev.minio_server import MinioServer
from tests.faults.lives import PROCESSES
from tests.support import runs
from tests.support.checker import check
from tests.support.lossy import LossyProxy, Weather
from tests.support.minio import client_of
from tests.support.stored import in_bucket, in_folder, parsed
from tests.support.waiting import until
from workflow.errors import FencedError
from workflow.log import registry
from workflow.log.run_log import RunLog
from workflow.model.records import RequestHandled
from workflow.store import open_store

DAG = runs.graph("a")
CLIENTS, KILLS = 4, 12


@dataclass
class Place:
    """A store: how clients open it, and how the test reads all of it."""

    url: str
    secret: dict[str, str]
    objects: Callable[[], dict[str, bytes]]
    weather: Weather | None = None


@pytest.fixture(params=["folder", "minio that loses answers"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of store."""
    if request.param == "folder":
        yield Place(str(tmp_path / "store"), {}, lambda: in_folder(tmp_path / "store"))
        return
    server: MinioServer = request.getfixturevalue("minio_server")
    bucket: str = request.getfixturevalue("bucket")
    with LossyProxy(server.port) as proxy:
        proxy.weather = weather = Weather(11, every=(0.5, 4.0), down=(0.0, 0.5))
        yield Place(
            f"s3://{bucket}/root?endpoint={proxy.endpoint}",
            {"access_key": server.access_key, "secret_key": server.secret_key},
            lambda: in_bucket(client_of(server), bucket, "root"),
            weather,
        )


def _client(url: str, secret: dict[str, str], name: str, diary: str) -> None:
    """Append members until the end of the process."""
    logging.disable(logging.CRITICAL)
    store = open_store(url, **secret)
    created = registry.read_entry(store, "w", 1)
    log = RunLog(store, created)  # type: ignore[arg-type]  # made by the test
    state = log.replay()
    pages = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    number = 0
    mine: set[str] = set()
    while True:
        member = f"{name}-{number}"
        os.write(pages, f"try {member}\n".encode())
        while True:
            try:
                log.append(state, [RequestHandled(member, 1, "appended")])
                break
            except FencedError:
                state = log.replay()
        os.write(pages, f"told {member}\n".encode())
        log.catch_up(state)
        mine |= {member}
        assert mine <= state.handled_requests, "what was acknowledged is read from then on"
        number += 1


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_acknowledged_is_there_and_nothing_else(place: Place, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = open_store(place.url, **place.secret)
    created = runs.created(DAG)
    RunLog(store, created).blobs.put(b"a function")
    registry.register(store, created)
    diary = tmp_path / "diary"
    clients: list[Any] = []

    def end(client: Any) -> None:
        client.kill()
        client.join()
        assert client.exitcode == -SIGKILL, "it had ended by itself"

    def told() -> int:
        return diary.read_text().count("told") if diary.exists() else 0

    try:
        for number in range(CLIENTS + KILLS):
            if number >= CLIENTS:
                enough = told() + chance.randint(1, 12)
                until(lambda enough=enough: told() >= enough)  # type: ignore[misc]
                victim = clients.pop(chance.randrange(len(clients)))
                end(victim)
            client = PROCESSES.Process(target=_client, args=(place.url, place.secret, f"c{number}", str(diary)))
            client.start()
            clients.append(client)
    finally:
        for client in clients:
            end(client)

    pages = [line.split() for line in diary.read_text().splitlines()]
    tried = {member for word, member in pages if word == "try"}
    acknowledged = {member for word, member in pages if word == "told"}
    objects = place.objects()
    check(objects, "w")
    log = sorted(key for key in objects if "/log/" in key)
    read = [record["request_id"] for key in log for record in parsed(key, objects[key])[1]]
    assert acknowledged <= set(read) <= tried
    assert len(read) == len(set(read)), "a member was appended twice"
    assert len(acknowledged) >= KILLS
    assert tried - acknowledged, "nobody was killed over an append"
    if place.weather is not None:
        assert all(place.weather.met[name] for name in ("outages", "lost", "gateway")), place.weather.met
