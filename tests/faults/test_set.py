"""Clients that are killed at random add members to a grow-only set in a log.

Every acknowledged member must be read, and every member that is read must have been attempted. Each client runs in its
own process and appends at the next free slot of the log. It records its attempts and acknowledgements in a journal
file. The S3 store also loses replies.
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
from tests.faults.manager_process import FORKSERVER
from tests.support import runs
from tests.support.checker import check
from tests.support.lossy import LossyProxy, NetworkFaults
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
class StoreUnderTest:
    """One kind of store.

    Attributes:
        url: the address with which clients open it.
        credentials: arguments of `open_store`.
        objects: returns all keys and their content.
        faults: the network faults in front of the store.
    """

    url: str
    credentials: dict[str, str]
    objects: Callable[[], dict[str, bytes]]
    faults: NetworkFaults | None = None


@pytest.fixture(params=["folder", "MinIO with lost replies"])
def tested(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreUnderTest]:
    """Return each kind of store in turn."""
    if request.param == "folder":
        yield StoreUnderTest(str(tmp_path / "store"), {}, lambda: in_folder(tmp_path / "store"))
        return
    server: MinioServer = request.getfixturevalue("minio_server")
    bucket: str = request.getfixturevalue("bucket")
    with LossyProxy(server.port) as proxy:
        proxy.faults = faults = NetworkFaults(11, every=(0.5, 4.0), down=(0.0, 0.5))
        yield StoreUnderTest(
            f"s3://{bucket}/root?endpoint={proxy.endpoint}",
            {"access_key": server.access_key, "secret_key": server.secret_key},
            lambda: in_bucket(client_of(server), bucket, "root"),
            faults,
        )


def _client(url: str, credentials: dict[str, str], name: str, journal: str) -> None:
    """Append members until the process is killed."""
    logging.disable(logging.CRITICAL)
    store = open_store(url, **credentials)
    created = registry.read_entry(store, "w", 1)
    log = RunLog(store, created)  # type: ignore[arg-type]  # the test created it
    state = log.replay()
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    number = 0
    acknowledged: set[str] = set()
    while True:
        member = f"{name}-{number}"
        os.write(file, f"attempted {member}\n".encode())
        while True:
            try:
                log.append(state, [RequestHandled(member, 1, "appended")])
                break
            except FencedError:
                log.catch_up(state)
        os.write(file, f"acknowledged {member}\n".encode())
        log.catch_up(state)
        acknowledged |= {member}
        assert acknowledged <= state.handled_requests, "an acknowledged member was not read"
        number += 1


def _is_appending(client: Any, journal: Path) -> bool:
    events = [line for line in journal.read_text().splitlines() if f" {client.name}-" in line]
    return bool(events) and events[-1].startswith("attempted")


@pytest.mark.parametrize("seed", [1, 2])
def test_reads_contain_all_acknowledged_members(tested: StoreUnderTest, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = open_store(tested.url, **tested.credentials)
    created = runs.created(DAG)
    RunLog(store, created).blobs.put(b"a function")
    registry.register(store, created)
    journal = tmp_path / "journal"
    clients: list[Any] = []

    def kill(client: Any) -> None:
        client.kill()
        client.join()
        assert client.exitcode == -SIGKILL, "the client ended before it was killed"

    def acknowledgements() -> int:
        return journal.read_text().count("acknowledged") if journal.exists() else 0

    try:
        for number in range(CLIENTS + KILLS):
            if number >= CLIENTS:
                enough = acknowledgements() + rng.randint(1, 12)
                until(lambda enough=enough: acknowledgements() >= enough)  # type: ignore[misc]
                victim = rng.choice([client for client in clients if _is_appending(client, journal)] or clients)
                clients.remove(victim)
                kill(victim)
            arguments = (tested.url, tested.credentials, f"c{number}", str(journal))
            client = FORKSERVER.Process(target=_client, args=arguments, name=f"c{number}")
            client.start()
            clients.append(client)
    finally:
        for client in clients:
            kill(client)

    lines = [line.split() for line in journal.read_text().splitlines()]
    attempted = {member for event, member in lines if event == "attempted"}
    acknowledged = {member for event, member in lines if event == "acknowledged"}
    objects = tested.objects()
    check(objects, "w")
    log = sorted(key for key in objects if "/log/" in key)
    read = [record["request_id"] for key in log for record in parsed(key, objects[key])[1]]
    assert acknowledged <= set(read) <= attempted
    assert len(read) == len(set(read)), "a member was appended twice"
    assert len(acknowledged) >= KILLS
    assert attempted - acknowledged, "no client was killed during an append"
    if tested.faults is not None:
        counts = tested.faults.counts
        assert all(counts[name] for name in ("outages", "lost", "gateway")), counts
