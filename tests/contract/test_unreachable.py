"""The first use of a store that cannot work: wrong settings are refused at once, and an outage within 30 seconds."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from urllib3 import Timeout

from dev.minio_server import MinioServer
from dev.processes import free_port
from tests.support.certificates import self_signed
from tests.support.lossy import Fault, LossyProxy
from tests.support.minio import address_of, credentials_of
from workflow.errors import StoreRefusedError, StoreUnavailableError, WorkflowError
from workflow.store import probe as probing
from workflow.store.probe import probe
from workflow.store.retrying import RetryingStore
from workflow.store.s3 import S3Address, S3Credentials, S3Store

AT_ONCE = 5.0
"""Seconds for an error without any retry, on a busy machine. The first waits of retries take longer together."""

KEYS = S3Credentials("user", "secret")
Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(answer: Answer) -> Iterator[int]:
    """Run a server on the loopback device that handles each connection with a function; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # the test ended
                    return
                with connection, contextlib.suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def sends(data: bytes) -> Answer:
    """Return a handler that receives a request and sends fixed bytes."""

    def answer(connection: socket.socket) -> None:
        connection.settimeout(2.0)
        connection.recv(65_536)
        connection.sendall(data)

    return answer


def speaks_tls(certificate: Path) -> Answer:
    """Return a handler for TLS connections with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer(connection: socket.socket) -> None:
        connection.settimeout(2.0)
        context.wrap_socket(connection, server_side=True).close()

    return answer


def first_use(endpoint: str, credentials: S3Credentials = KEYS, bucket: str = "bucket") -> tuple[WorkflowError, float]:
    """Probe a store as `init` does; return the error and the seconds that it took."""
    store = RetryingStore(S3Store(S3Address(bucket, "p", endpoint, "us-east-1"), credentials))
    began = time.monotonic()
    try:
        with pytest.raises((StoreRefusedError, StoreUnavailableError)) as raised:
            probe(store)
    finally:
        store.close()
    assert endpoint in str(raised.value)
    return raised.value, time.monotonic() - began


PLAIN_PAGE = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
WEB_PAGE = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>log in to the proxy</html>"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
REDIS = b"-ERR wrong number of arguments for 'get' command\r\n"
EXPECTS_TLS, NO_TLS = "expects TLS; use https:// in the endpoint", "does not accept TLS like this; use http://"
NOT_HTTP, NOT_S3 = "is not an HTTP server; correct the endpoint", "is not an S3 server; correct the endpoint"

WRONG: dict[str, tuple[str, bytes, str]] = {
    "http to a TLS server that sends a page": ("http", PLAIN_PAGE, EXPECTS_TLS),
    "http to a TLS server that sends an alert": ("http", TLS_ALERT, EXPECTS_TLS),
    "https to an HTTP server": ("https", PLAIN_PAGE, NO_TLS),
    "https to an SSH server": ("https", SSH, NO_TLS),
    "http to an SSH server": ("http", SSH, NOT_HTTP),
    "http to a Redis server": ("http", REDIS, NOT_HTTP),
    "page of a proxy": ("http", WEB_PAGE, NOT_S3),
}


@pytest.mark.parametrize(("scheme", "reply", "text"), WRONG.values(), ids=WRONG)
def test_wrong_protocol_is_refused_at_once(scheme: str, reply: bytes, text: str) -> None:
    with listening(sends(reply)) as port:
        error, seconds = first_use(f"{scheme}://127.0.0.1:{port}")
    assert text in str(error)
    assert seconds < AT_ONCE


def test_untrusted_certificate_is_refused_at_once(tmp_path: Path) -> None:
    with listening(speaks_tls(self_signed(tmp_path))) as port:
        error, seconds = first_use(f"https://127.0.0.1:{port}")
    assert "trust its certificate (SSL_CERT_FILE), or correct the endpoint" in str(error)
    assert seconds < AT_ONCE


def test_https_to_minio_without_tls_is_refused_at_once(minio_server: MinioServer) -> None:
    error, seconds = first_use(minio_server.endpoint.replace("http:", "https:"))
    assert NO_TLS in str(error)
    assert seconds < AT_ONCE


def test_wrong_keys_and_bucket_are_refused_at_once(minio_server: MinioServer) -> None:
    error, seconds = first_use(minio_server.endpoint)
    assert "correct the access key" in str(error)
    other, more = first_use(minio_server.endpoint, credentials_of(minio_server), "no-such-bucket")
    assert "create the bucket" in str(other)
    assert seconds + more < AT_ONCE


@pytest.mark.parametrize(
    ("number", "at_once"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)], ids=["unknown", "resolver failed"]
)
def test_unknown_host_is_refused_at_once(number: int, at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolve(*_: object, **__: object) -> None:
        asked.append(1)
        raise socket.gaierror(number, "not resolved")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(probing, "LIMIT_SECONDS", 0.5)
    error, _ = first_use("http://minio.invalid:9000")
    assert "the host name is unknown; check DNS, or correct the endpoint" in str(error)
    assert (len(asked) == 1) is at_once


def silent(connection: socket.socket) -> None:
    """Receive, and reply nothing until the client gives up."""
    while connection.recv(65_536):
        pass


@pytest.mark.parametrize("is_open", [False, True], ids=["closed port", "server that hangs"])
def test_outage_is_reported_within_one_limit(is_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit includes the last attempt and the removal of the keys of the probe."""
    monkeypatch.setattr(probing, "LIMIT_SECONDS", 1.0)
    with listening(silent) as port:
        address = S3Address("bucket", "p", f"http://127.0.0.1:{port if is_open else free_port()}", "us-east-1")
        store = RetryingStore(S3Store(address, KEYS, Timeout(connect=0.3, read=0.3)))
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="gave up after"):
            probe(store)
        assert time.monotonic() - began < 1.3
        store.close()


def test_outage_during_the_probe_is_reported_within_the_limit(
    minio_server: MinioServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "LIMIT_SECONDS", 1.0)
    with LossyProxy(minio_server.port) as proxy:
        for _ in range(20):
            proxy.inject("GET", Fault(forward=False, reply=(503, "text/html", b"<html>the gateway</html>")))
        address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
        store = RetryingStore(S3Store(address, credentials_of(minio_server)))
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="HTTP 503"):
            probe(store)
        assert time.monotonic() - began < 2.5
        store.close()
