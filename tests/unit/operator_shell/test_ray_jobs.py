"""Replies of a head and of proxies in front of it: the error describes the reply and the remedy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from workflow_operator.adapters.ray_jobs import TEXT_LIMIT, HeadEndpoint, Job, RayJobs
from workflow_operator.errors import RefusedError, UnreachableError

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LINE = "a line of the log that is long enough to fill the message"


def replying(reply: bytes) -> Connection:
    """Return a server that replies to each request with these bytes, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    return serve


def response(status: str, body: str = "", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


@asynccontextmanager
async def head_that(serves: Connection) -> AsyncIterator[tuple[RayJobs, HeadEndpoint]]:
    server = await asyncio.start_server(serves, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session:
        yield RayJobs(session, timeout=10), HeadEndpoint(f"http://127.0.0.1:{port}")


async def error_of(serves: Connection) -> Exception:
    async with head_that(serves) as (jobs, head):
        with pytest.raises((UnreachableError, RefusedError)) as caught:
            await jobs.job(head, "rwf-1")
        return caught.value


PROXIES = {
    "closes the connection": (b"", "closed without a reply"),
    "envoy without upstream": (
        response("503 Service Unavailable", "upstream connect error", server="envoy"),
        "HTTP 503 (upstream connect error)",
    ),
    "istio denies": (response("403 Forbidden", "RBAC: access denied"), "HTTP 403 (RBAC: access denied)"),
    "linkerd denies": (
        response("403 Forbidden", l5d_proxy_error="client is not authorized"),
        "HTTP 403 (client is not authorized)",
    ),
}


@pytest.mark.parametrize(("reply", "text"), PROXIES.values(), ids=PROXIES.keys())
async def test_refusal_of_a_mesh_names_the_remedy(reply: bytes, text: str) -> None:
    error = await error_of(replying(reply))
    assert isinstance(error, UnreachableError)
    assert text in str(error)
    assert 'excludeInboundPorts: "8265"' in str(error)
    assert 'skip-inbound-ports: "8265"' in str(error)


async def test_reset_connection_names_the_remedy() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    assert "excludeInboundPorts" in str(await error_of(reset))


@pytest.mark.parametrize("status", ["403 Forbidden", "503 Service Unavailable"])
async def test_reply_of_the_head_itself_names_no_mesh(status: str) -> None:
    assert "mesh" not in str(await error_of(replying(response(status, "no"))))


async def test_refused_connection_names_no_mesh() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(UnreachableError, match="does not answer") as caught:
            await RayJobs(session).version(HeadEndpoint("http://127.0.0.1:9"))
    assert "mesh" not in str(caught.value)


async def job_with(message: str) -> Job:
    body = '{"status": "FAILED", "message": ' + message + "}"
    async with head_that(replying(response("200 OK", body))) as (jobs, head):
        job = await jobs.job(head, "rwf-1")
    assert job is not None
    return job


async def test_message_of_a_job_begins_with_its_error() -> None:
    frames = "".join(f"  File 'part.py', line {number}\\n    {LINE}\\n" for number in range(200))
    log = f'"Job entrypoint command failed\\nTraceback (most recent call last):\\n{frames}ValueError: no seat\\n"'
    job = await job_with(log)
    lines = job.message.split("\n")
    assert lines[:2] == ["ValueError: no seat", "..."]
    assert len(job.message) <= TEXT_LIMIT
    assert all(line.strip() in (LINE, "", "ValueError: no seat") or "part.py" in line for line in lines[2:])


async def test_message_of_a_job_has_no_colors() -> None:
    assert (await job_with('"\\u001b[36m(pid=7)\\u001b[0m booked"')).message == "(pid=7) booked"
