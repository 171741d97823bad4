"""What a real MinIO refuses is said in words that tell what to change, and shows no secret."""

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
SECRET = "a-secret-nobody-shall-see"


def refused(address: S3Address, credentials: S3Credentials, call: Callable[[Store], object]) -> str:
    """The text of the refusal."""
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
def test_a_bucket_that_is_missing(minio_server: MinioServer, call: Callable[[Store], object]) -> None:
    text = refused(address_of(minio_server, "no-such-bucket"), credentials_of(minio_server), call)
    assert "NoSuchBucket" in text
    assert "s3://no-such-bucket/some/prefix/" in text
    assert "create the bucket" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_secret_key_that_is_wrong(minio_server: MinioServer, bucket: str, call: Callable[[Store], object]) -> None:
    text = refused(address_of(minio_server, bucket), S3Credentials(minio_server.access_key, SECRET), call)
    assert "SignatureDoesNotMatch" in text
    assert "correct the secret key (AWS_SECRET_ACCESS_KEY)" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_access_key_that_is_unknown(minio_server: MinioServer, bucket: str, call: Callable[[Store], object]) -> None:
    text = refused(address_of(minio_server, bucket), S3Credentials("nobody", SECRET), call)
    assert "InvalidAccessKeyId" in text
    assert "correct the access key (AWS_ACCESS_KEY_ID)" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_credentials_that_may_not(minio_server: MinioServer, bucket: str, call: Callable[[Store], object]) -> None:
    text = refused(address_of(minio_server, bucket), temporary(minio_server, "s3:GetBucketLocation"), call)
    assert "AccessDenied" in text
    assert "let these credentials get, put, delete and list" in text


def test_temporary_credentials_that_may(
    minio_server: MinioServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    """Credentials for one action only."""
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


def test_a_head_without_rights_is_not_taken_for_a_missing_object(minio_server: MinioServer, bucket: str) -> None:
    credentials = S3Credentials(minio_server.access_key, SECRET)
    text = refused(address_of(minio_server, bucket), credentials, lambda store: store.head("key"))
    assert "AccessDenied" in text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_is_not_there(minio_server: MinioServer, call: Callable[[Store], object]) -> None:
    address = replace(address_of(minio_server, "bucket"), endpoint=f"http://127.0.0.1:{free_port()}")
    store = S3Store(address, credentials_of(minio_server))
    with pytest.raises(
        StoreUnavailableError, match=r"NewConnectionError.*nothing answers there; see that the server runs"
    ):
        call(store)


def test_a_server_whose_name_is_unknown(minio_server: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    address = replace(address_of(minio_server, "bucket"), endpoint="http://minio.invalid:9000")
    store = S3Store(address, credentials_of(minio_server))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StoreUnavailableError, match="no such host is known"):
        store.get("key")


NO_S3 = Fault(forward=False, answer=(404, "text/html", b"<html>a web page</html>"))
PAGE = Fault(forward=False, answer=(200, "text/html", b"a web page"))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("create", NO_S3), ("overwrite", NO_S3), ("get", NO_S3), ("list", NO_S3), ("list", PAGE)],
    ids=["create", "overwrite", "get", "list", "list answered with a page"],
)
def test_something_that_is_no_s3_server(minio_server: MinioServer, bucket: str, name: str, fault: Fault) -> None:
    with LossyProxy(minio_server.port) as proxy:
        for method in ("GET", "PUT"):
            proxy.spoil(method, fault)
        address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
        text = refused(address, credentials_of(minio_server), CALLS[name])
    assert "what answers there does not speak S3" in text


def test_a_server_that_lacks_conditions_on_puts(minio_server: MinioServer, bucket: str) -> None:
    cannot = b"<?xml version='1.0'?><Error><Code>NotImplemented</Code><Message>A header you provided</Message></Error>"
    with LossyProxy(minio_server.port) as proxy:
        proxy.spoil("PUT", Fault(forward=False, answer=(501, lossy.XML, cannot)))
        address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
        text = refused(address, credentials_of(minio_server), CALLS["create"])
    assert "NotImplemented: A header you provided; the server cannot do this" in text
