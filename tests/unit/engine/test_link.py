"""The direct connection: it carries exchanges, refuses strangers, and sends to Ray whoever would have to wait."""

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
DONE = FinishedAttempt(("run", "a"), 1, Returned(Value(b"y"), "", 0.0, 1.0))


class FakeLeases:
    """Answers each exchange with one task; one of turn 9 never."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Sequence[FinishedAttempt]]] = []

    async def exchange(self, number: str, turn: int, done: Sequence[FinishedAttempt]) -> tuple[StepTask, ...]:
        """See Leases."""
        self.asked.append((number, turn, done))
        if turn == 9:
            await asyncio.get_running_loop().create_future()
        return (TASK,)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[FakeLeases, LinkAddress]]:
    """A server, and where it is."""
    leases = FakeLeases()
    server = LinkServer(leases)  # type: ignore[arg-type]  # leases as far as they are asked
    try:
        yield leases, await server.open(HOST)
    finally:
        await server.close()


async def linked(address: LinkAddress) -> Link:
    """A worker's side."""
    return await asyncio.to_thread(Link, address)


async def test_an_exchange_carries_what_was_done_and_what_is_to_do() -> None:
    async with listening() as (leases, address):
        client = await linked(address)
        assert await asyncio.to_thread(client.exchange, "lease-1", 3, (DONE,)) == (TASK,)
        assert leases.asked == [("lease-1", 3, (DONE,))]
        client.close()


async def test_who_would_have_to_wait_is_sent_to_ray_and_may_come_back() -> None:
    async with listening() as (_, address):
        client = await linked(address)
        assert await asyncio.to_thread(client.exchange, "lease-1", 9, ()) is None
        assert await asyncio.to_thread(client.exchange, "lease-1", 10, ()) == (TASK,)
        client.close()


async def test_who_does_not_know_the_secret_is_heard_by_nobody() -> None:
    async with listening() as (leases, address):
        with pytest.raises(OSError, match="hung up"):
            await linked(dataclasses.replace(address, secret=b"another"))
        assert leases.asked == []


async def test_a_manager_that_does_not_know_the_secret_is_not_believed() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"n" * 32)
        writer.write(await reader.readexactly(32))
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConnectionError, match="does not know this manager's secret"):
        await linked(LinkAddress(HOST, port, b"ours"))
    server.close()


async def test_a_frame_of_absurd_size_closes_the_link_and_nothing_else() -> None:
    async with listening() as (_, address):
        client = await linked(address)
        client._socket.sendall(b"\xff\xff\xff\xff")
        assert await asyncio.to_thread(client._file.read) == b""
        client.close()
        again = await linked(address)
        assert await asyncio.to_thread(again.exchange, "lease-2", 0, ()) == (TASK,)
        again.close()


async def test_a_worker_whose_machine_vanished_is_noticed_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[asyncio.StreamWriter] = []
    real = LinkServer._proved

    async def proved(self: LinkServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        accepted.append(writer)
        return await real(self, reader, writer)

    monkeypatch.setattr(LinkServer, "_proved", proved)
    async with listening() as (_, address):
        client = await linked(address)
        connection = accepted[0].get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
        client.close()


async def test_a_silent_manager_is_an_error_and_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "TIMEOUT", 0.05)
    with socket.create_server((HOST, 0)) as silent, pytest.raises(TimeoutError):
        await linked(LinkAddress(HOST, silent.getsockname()[1], b"ours"))


@pytest.mark.parametrize(("value", "allowed"), [("0", True), ("1", False), ("true", False), (None, True)], ids=str)
def test_where_ray_encrypts_its_traffic_nothing_passes_beside_it(
    value: Any, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_USE_TLS", value)
    assert link.allowed() is allowed
