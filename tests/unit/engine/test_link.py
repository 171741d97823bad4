"""The direct connection carries exchanges, and refuses clients without the secret. Waiting workers use actor calls."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from workflow.engine import link
from workflow.engine.link import Link, LinkAddress, LinkServer
from workflow.engine.messages import FinishedAttempt, Returned, RunAddress, StepTask
from workflow.model.graph import Value

HOST = "127.0.0.1"
TASK = StepTask(RunAddress("memory://", "w", 1, "run"), "a", "m.f", "", Value(b"x"), (), 1, render=False, written_by="")
FINISHED = FinishedAttempt(("run", "a"), 1, Returned(Value(b"y"), "", 0.0, 1.0))
NO_WORK = 9
"""Sequence number of an exchange that the fake manager never answers."""


class FakeManager:
    """Answers each exchange with one task, except the exchange with sequence number NO_WORK."""

    def __init__(self) -> None:
        self.received: list[tuple[str, int, Sequence[FinishedAttempt]]] = []

    async def exchange(self, lease_id: str, sequence: int, finished: Sequence[FinishedAttempt]) -> tuple[StepTask, ...]:
        """Record the request."""
        self.received.append((lease_id, sequence, finished))
        if sequence == NO_WORK:
            await asyncio.get_running_loop().create_future()
        return (TASK,)


@contextlib.asynccontextmanager
async def running_server(host: str = HOST) -> AsyncIterator[tuple[FakeManager, LinkAddress]]:
    manager = FakeManager()
    server = LinkServer(manager.exchange)
    try:
        yield manager, await server.open(host)
    finally:
        await server.close()


async def connect(address: LinkAddress) -> Link:
    return await asyncio.to_thread(Link, address)


@pytest.mark.parametrize("host", [HOST, "::1"])
async def test_exchange_carries_finished_attempts_and_new_tasks(host: str) -> None:
    async with running_server(host) as (manager, address):
        client = await connect(address)
        assert await asyncio.to_thread(client.exchange, "lease-1", 3, (FINISHED,)) == (TASK,)
        assert manager.received == [("lease-1", 3, (FINISHED,))]
        client.close()


async def test_worker_without_work_is_sent_to_the_actor_call() -> None:
    async with running_server() as (_, address):
        client = await connect(address)
        assert await asyncio.to_thread(client.exchange, "lease-1", NO_WORK, ()) is None
        assert await asyncio.to_thread(client.exchange, "lease-1", NO_WORK + 1, ()) == (TASK,)
        client.close()


async def test_client_with_a_wrong_secret_is_refused() -> None:
    async with running_server() as (manager, address):
        with pytest.raises(OSError, match="the manager closed the connection"):
            await connect(dataclasses.replace(address, secret=b"another"))
        assert manager.received == []


async def test_server_with_a_wrong_secret_is_refused() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"n" * 32)
        writer.write(await reader.readexactly(32))
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConnectionError, match="does not know this manager's secret"):
        await connect(LinkAddress(HOST, port, b"ours"))
    server.close()


async def test_oversized_frame_closes_only_its_connection() -> None:
    async with running_server() as (_, address):
        client = await connect(address)
        client._socket.sendall(b"\xff\xff\xff\xff")
        assert await asyncio.to_thread(client._file.read) == b""
        client.close()
        again = await connect(address)
        assert await asyncio.to_thread(again.exchange, "lease-2", 0, ()) == (TASK,)
        again.close()


async def test_connections_to_workers_have_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[asyncio.StreamWriter] = []
    real = LinkServer._authenticate

    async def authenticate(self: LinkServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        accepted.append(writer)
        return await real(self, reader, writer)

    monkeypatch.setattr(LinkServer, "_authenticate", authenticate)
    async with running_server() as (_, address):
        client = await connect(address)
        connection = accepted[0].get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
        client.close()


async def test_manager_that_does_not_answer_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RESPONSE_TIMEOUT", 0.05)
    with socket.create_server((HOST, 0)) as silent, pytest.raises(TimeoutError):
        await connect(LinkAddress(HOST, silent.getsockname()[1], b"ours"))


@pytest.mark.parametrize(("value", "allowed"), [("0", True), ("1", False), ("true", False), (None, True)], ids=str)
def test_no_direct_connections_if_ray_encrypts_its_own(
    value: Any, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_USE_TLS", value)
    assert link.is_allowed() is allowed
