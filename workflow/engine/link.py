"""A direct connection between a leased worker and its manager: an exchange by it takes a tenth of an actor call's time.

Only a shortcut: what cannot pass here (no route, a manager that is busy or gone, a reply that holds Ray objects) passes
by the actor call instead, and repeating an exchange is harmless. Both sides prove first that they know the secret that
Ray carried to the worker, since frames are pickles. Server and client stand side by side, so that the frames agree.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import pickle
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workflow.engine.dispatch.leases import Leases
from workflow.engine.messages import FinishedAttempt, StepTask

PATIENCE = 0.02
"""Seconds that a worker waits here for work. Behind them it asks by an actor call, since Ray frees the CPUs of whoever
waits for one, and of nobody else."""

TIMEOUT = 2.0
"""Seconds without an answer after which a worker asks by an actor call."""

KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds, and probes: a machine that vanished hangs up nothing, and its workers' connections would stay for ever."""

LARGEST = 1 << 30
_LENGTH = struct.Struct("!I")
_NONCE = 32
_TASKS, _BY_RAY = b"T", b"R"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """Where a manager listens, and what proves that one may speak to it."""

    host: str
    port: int
    secret: bytes = field(repr=False)


class LinkServer:
    """The manager's side; lives on the engine's loop.

    Args:
        leases: what workers exchange with.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._secret = secrets.token_bytes(_NONCE)
        self._server: asyncio.Server | None = None

    async def open(self, host: str) -> LinkAddress:
        """Listen on a free port of this host's address; raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        return LinkAddress(host, self._server.sockets[0].getsockname()[1], self._secret)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _keep_alive(writer.get_extra_info("socket"))
            if await self._proved(reader, writer):
                while True:
                    _write(writer, await self._answer(await _read(reader)))
        except (OSError, EOFError, _FrameTooLargeError) as error:  # the worker has ended, or is none of ours
            logger.debug("a link is closed: %r", error)
        finally:
            writer.close()

    async def _proved(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        ours = secrets.token_bytes(_NONCE)
        writer.write(ours)
        theirs, proof = await reader.readexactly(_NONCE), await reader.readexactly(_NONCE)
        if not hmac.compare_digest(proof, _proof(self._secret, b"worker", ours)):
            logger.warning("%s knocked without the secret", writer.get_extra_info("peername"))
            return False
        writer.write(_proof(self._secret, b"manager", theirs))
        return True

    async def _answer(self, frame: bytes) -> bytes:
        number, turn, done = pickle.loads(frame)
        exchange = asyncio.ensure_future(self._leases.exchange(number, turn, done))
        await asyncio.wait((exchange,), timeout=PATIENCE)
        if not exchange.done():
            exchange.cancel()
            return _BY_RAY
        tasks = exchange.result()
        return _BY_RAY if any(task.has_ray_refs for task in tasks) else _TASKS + pickle.dumps(tasks, protocol=5)


class Link:
    """The worker's side; blocks.

    Args:
        address: told by the manager.

    Raises:
        OSError: it cannot be reached, or is not who it should be.
    """

    def __init__(self, address: LinkAddress) -> None:
        self._socket = socket.create_connection((address.host, address.port), TIMEOUT)
        self._file = self._socket.makefile("rb")
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            nonce = secrets.token_bytes(_NONCE)
            self._socket.sendall(nonce + _proof(address.secret, b"worker", self._exactly(_NONCE)))
            if not hmac.compare_digest(self._exactly(_NONCE), _proof(address.secret, b"manager", nonce)):
                raise ConnectionError(f"{address.host}:{address.port} does not know this manager's secret")
        except OSError:
            self.close()
            raise

    def exchange(self, number: str, turn: int, done: Sequence[FinishedAttempt]) -> tuple[StepTask, ...] | None:
        """See Leases.exchange; None: ask by an actor call.

        Raises:
            OSError: the connection is broken or silent; whether the exchange took place is open.
        """
        if any(finished.has_ray_refs for finished in done):
            return None
        frame = pickle.dumps((number, turn, done), protocol=5)
        self._socket.sendall(_LENGTH.pack(len(frame)) + frame)
        answer = self._exactly(_LENGTH.unpack(self._exactly(_LENGTH.size))[0])
        if answer[:1] == _BY_RAY:
            return None
        tasks: tuple[StepTask, ...] = pickle.loads(memoryview(answer)[1:])
        return tasks

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the manager hung up")
        return data


class _FrameTooLargeError(Exception):
    """Longer than anything that is ever sent."""


def allowed() -> bool:
    """Whether workers may speak to the manager past Ray: not where Ray's own traffic is encrypted."""
    return os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true")


def _keep_alive(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _proof(secret: bytes, side: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret, side + nonce, "sha256")


async def _read(reader: asyncio.StreamReader) -> bytes:
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > LARGEST:
        raise _FrameTooLargeError(f"a frame of {size} bytes")
    return await reader.readexactly(size)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(_LENGTH.pack(len(data)) + data)
