"""Errors for requests that a real MinIO refuses: they state what to change, and contain no secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from minio.credentials.providers import AssumeRoleProvider

from dev.minio_server import MinioServer
from dev.processes import free_port
from tests.support import lossy
from tests.support.lossy import Fault, LossyProxy
from tests.support.minio import address_of, credentials_of
from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.store import Store, open_store
from workflow.store.s3 import S3Address, S3Credentials, S3Store

CALLS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create("key", b"data", "put-1"),
    "overwrite": lambda store: store.overwrite("key", b"data"),
    "get": lambda store: store.get("key"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("key"),
}
SECRET = "a-secret-that-no-text-may-show"


def refusal_text(address: S3Address, credentials: S3Credentials, call: Callable[[Store], object]) -> str:
    """Return the text of the refusal, which must not contain a secret."""
    store = S3Store(address, credentials)
    try:
        with pytest.raises(StoreRefusedError) as refusal:
            call(store)
    finally:
        store.close()
    text = str(refusal.value)
    assert credentials.secret_key not in text
    assert "Signature=" not in text
    assert address.endpoint in text
    return text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_missing_bucket(minio_server: MinioServer, call: Callable[[Store], object]) -> None:
    text = refusal_text(address_of(minio_server, "no-such-bucket"), credentials_of(minio_server), call)
    assert "NoSuchBucket" in text
    assert "s3://no-such-bucket/some/prefix/" in text
    assert "create the bucket" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_secret_key(minio_server: MinioServer, bucket: str, call: Callable[[Store], object]) -> None:
    text = refusal_text(address_of(minio_server, bucket), S3Credentials(minio_server.access_key, SECRET), call)
    assert "SignatureDoesNotMatch" in text
    assert "correct the secret key (AWS_SECRET_ACCESS_KEY)" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_unknown_access_key(minio_server: MinioServer, bucket: str, call: Callable[[Store], object]) -> None:
    text = refusal_text(address_of(minio_server, bucket), S3Credentials("unknown-user", SECRET), call)
    assert "InvalidAccessKeyId" in text
    assert "correct the access key (AWS_ACCESS_KEY_ID)" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_credentials_without_rights(minio_server: MinioServer, bucket: str, call: Callable[[Store], object]) -> None:
    text = refusal_text(address_of(minio_server, bucket), temporary(minio_server, "s3:GetBucketLocation"), call)
    assert "AccessDenied" in text
    assert "allow these credentials to get, put, delete and list" in text


def test_temporary_credentials_work(minio_server: MinioServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = temporary(minio_server, "s3:*")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", credentials.session_token or "")
    store = open_store(address_of(minio_server, bucket).url)
    assert store.create("key", b"data", "put-1") is True
    assert store.create("key", b"data", "put-2") is False
    assert store.get("key") == b"data"
    store.close()


def temporary(server: MinioServer, action: str) -> S3Credentials:
    """Return temporary credentials for one action."""
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [action], "Resource": ["*"]}]}
    provider = AssumeRoleProvider(
        sts_endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        policy=json.dumps(policy),
        duration_seconds=900,
    )
    given = provider.retrieve()
    return S3Credentials(given.access_key, given.secret_key, given.session_token)


def test_denied_head_does_not_report_a_missing_object(minio_server: MinioServer, bucket: str) -> None:
    credentials = S3Credentials(minio_server.access_key, SECRET)
    text = refusal_text(address_of(minio_server, bucket), credentials, lambda store: store.head("key"))
    assert "AccessDenied" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_unreachable_server(minio_server: MinioServer, call: Callable[[Store], object]) -> None:
    address = replace(address_of(minio_server, "bucket"), endpoint=f"http://127.0.0.1:{free_port()}")
    store = S3Store(address, credentials_of(minio_server))
    with pytest.raises(
        StoreUnavailableError, match=r"NewConnectionError.*no server responds there; check that it runs"
    ):
        call(store)


def test_unknown_host_name(minio_server: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    address = replace(address_of(minio_server, "bucket"), endpoint="http://minio.invalid:9000")
    store = S3Store(address, credentials_of(minio_server))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StoreUnavailableError, match="the host name is unknown"):
        store.get("key")


NOT_S3 = Fault(forward=False, reply=(404, "text/html", b"<html>a web page</html>"))
WEB_PAGE = Fault(forward=False, reply=(200, "text/html", b"a web page"))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("create", NOT_S3), ("overwrite", NOT_S3), ("get", NOT_S3), ("list", NOT_S3), ("list", WEB_PAGE)],
    ids=["create", "overwrite", "get", "list", "list that returns a web page"],
)
def test_server_that_is_not_an_s3_server(minio_server: MinioServer, bucket: str, name: str, fault: Fault) -> None:
    with LossyProxy(minio_server.port) as proxy:
        for method in ("GET", "PUT"):
            proxy.inject(method, fault)
        address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
        text = refusal_text(address, credentials_of(minio_server), CALLS[name])
    assert "the server there is not an S3 server" in text


def test_server_without_conditional_puts(minio_server: MinioServer, bucket: str) -> None:
    xml = b"<?xml version='1.0'?><Error><Code>NotImplemented</Code><Message>A header you provided</Message></Error>"
    with LossyProxy(minio_server.port) as proxy:
        proxy.inject("PUT", Fault(forward=False, reply=(501, lossy.XML, xml)))
        address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
        text = refusal_text(address, credentials_of(minio_server), CALLS["create"])
    assert "NotImplemented: A header you provided; the server does not support this" in text
