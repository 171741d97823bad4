"""A direct connection between a leased worker and its manager. It takes a tenth of the time of an actor call.

It is only a shortcut. A worker uses the actor call instead if there is no route, if it would have to wait, or if a
message contains Ray objects. An exchange may be repeated without harm. Messages are pickles, so both sides first prove
that they know a secret that Ray carried to the worker. Client and server share one module, so their frames agree.
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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from workflow.engine.messages import FinishedAttempt, StepTask

Exchange = Callable[[str, int, Sequence[FinishedAttempt]], Awaitable[tuple[StepTask, ...]]]
"""Takes (lease id, sequence number, finished attempts), and returns the tasks to execute next."""

MAX_WAIT = 0.02
"""Seconds that a worker waits for work on this connection. After that it uses an actor call, because Ray frees the CPUs
of a worker that waits in a Ray call, and of no other."""

RESPONSE_TIMEOUT = 2.0
"""Seconds without a reply after which a worker uses an actor call."""

KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""TCP options in seconds and probes. They close the connections of a machine that disappeared without closing them."""

MAX_FRAME: Final = 1 << 30
"""Bytes of the largest frame that the server accepts."""

_LENGTH: Final = struct.Struct("!I")
_NONCE_SIZE: Final = 32
_TASKS: Final = b"T"
_USE_ACTOR_CALL: Final = b"R"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """The address of a manager's server, and the secret that authenticates both sides."""

    host: str
    port: int
    secret: bytes = field(repr=False)


class LinkServer:
    """The manager's side. It runs on the engine's event loop.

    Args:
        exchange: answers the requests of workers; see `Leases.exchange`.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._secret = secrets.token_bytes(_NONCE_SIZE)
        self._server: asyncio.Server | None = None

    async def open(self, host: str) -> LinkAddress:
        """Listen on a free port of this host's address.

        Raises:
            OSError: the address cannot be used.
        """
        self._server = await asyncio.start_server(self._serve, host, 0)
        return LinkAddress(host, self._server.sockets[0].getsockname()[1], self._secret)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _enable_keepalive(writer.get_extra_info("socket"))
            if await self._authenticate(reader, writer):
                while True:
                    _write_frame(writer, await self._reply(await _read_frame(reader)))
        except (OSError, EOFError, _FrameTooLargeError) as error:  # the worker ended, or the client is not a worker
            logger.debug("connection closed: %r", error)
        finally:
            writer.close()

    async def _authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        server_nonce = secrets.token_bytes(_NONCE_SIZE)
        writer.write(server_nonce)
        client_nonce, proof = await reader.readexactly(_NONCE_SIZE), await reader.readexactly(_NONCE_SIZE)
        if not hmac.compare_digest(proof, _proof(self._secret, b"worker", server_nonce)):
            peer = writer.get_extra_info("peername")
            logger.warning("refused a connection from %s: it is not a worker, because its secret is wrong", peer)
            return False
        writer.write(_proof(self._secret, b"manager", client_nonce))
        return True

    async def _reply(self, frame: bytes) -> bytes:
        lease_id, sequence, finished = pickle.loads(frame)
        exchange = asyncio.ensure_future(self._exchange(lease_id, sequence, finished))
        await asyncio.wait((exchange,), timeout=MAX_WAIT)
        if not exchange.done():
            exchange.cancel()
            return _USE_ACTOR_CALL
        tasks = exchange.result()
        if any(task.has_ray_refs for task in tasks):
            return _USE_ACTOR_CALL
        return _TASKS + pickle.dumps(tasks, protocol=5)


class Link:
    """The worker's side. Every method blocks.

    Args:
        address: the address of the manager's server.

    Raises:
        OSError: the manager cannot be reached, or does not know the secret.
    """

    def __init__(self, address: LinkAddress) -> None:
        self._socket = socket.create_connection((address.host, address.port), RESPONSE_TIMEOUT)
        self._file = self._socket.makefile("rb")
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            nonce = secrets.token_bytes(_NONCE_SIZE)
            self._socket.sendall(nonce + _proof(address.secret, b"worker", self._read_exactly(_NONCE_SIZE)))
            if not hmac.compare_digest(self._read_exactly(_NONCE_SIZE), _proof(address.secret, b"manager", nonce)):
                host = f"[{address.host}]" if ":" in address.host else address.host
                raise ConnectionError(f"{host}:{address.port} does not know this manager's secret")
        except OSError:
            self.close()
            raise

    def exchange(
        self, lease_id: str, sequence: int, finished: Sequence[FinishedAttempt]
    ) -> tuple[StepTask, ...] | None:
        """Return the finished attempts, and receive the next tasks; see `Leases.exchange`.

        Returns:
            The tasks; None if the worker must repeat the exchange as an actor call.

        Raises:
            OSError: the connection is broken or timed out. The manager may have received the request.
        """
        if any(attempt.has_ray_refs for attempt in finished):
            return None
        frame = pickle.dumps((lease_id, sequence, finished), protocol=5)
        self._socket.sendall(_LENGTH.pack(len(frame)) + frame)
        reply = self._read_exactly(_LENGTH.unpack(self._read_exactly(_LENGTH.size))[0])
        if reply[:1] == _USE_ACTOR_CALL:
            return None
        tasks: tuple[StepTask, ...] = pickle.loads(memoryview(reply)[1:])
        return tasks

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _read_exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the manager closed the connection")
        return data


class _FrameTooLargeError(Exception):
    """A frame is larger than every message of this protocol."""


def is_allowed() -> bool:
    """Return whether workers may connect directly: not if Ray encrypts its connections, because this one is plain."""
    return os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true")


def _enable_keepalive(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # some platforms lack these options
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _proof(secret: bytes, side: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret, side + nonce, "sha256")


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > MAX_FRAME:
        raise _FrameTooLargeError(f"a frame of {size} bytes")
    return await reader.readexactly(size)


def _write_frame(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(_LENGTH.pack(len(data)) + data)
