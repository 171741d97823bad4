"""One real MinIO server for all tests that ask for it, with a bucket of its own for each of them."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator

import pytest
from minio import Minio

from dev.minio_server import MinioServer
from workflow.store.s3 import S3Address, S3Credentials


@pytest.fixture(scope="session")
def minio_server() -> Iterator[MinioServer]:
    """A running server."""
    with contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            # A server is known by its recorded pid; the object that started it is dropped while it runs.
            warnings.simplefilter("ignore", ResourceWarning)
            server = stack.enter_context(MinioServer())
        yield server


def client_of(server: MinioServer) -> Minio:
    """A plain client with the server's own credentials."""
    return Minio(
        server.endpoint.removeprefix("http://"),
        access_key=server.access_key,
        secret_key=server.secret_key,
        secure=False,
        region="us-east-1",
    )


@pytest.fixture
def bucket(minio_server: MinioServer) -> str:
    """An empty bucket."""
    name = f"test-{uuid.uuid4().hex}"
    client_of(minio_server).make_bucket(name)
    return name


def address_of(server: MinioServer, bucket: str) -> S3Address:
    """A store's address below a prefix of a bucket."""
    return S3Address(bucket, "some/prefix", server.endpoint, "us-east-1")


def credentials_of(server: MinioServer) -> S3Credentials:
    """The server's own."""
    return S3Credentials(server.access_key, server.secret_key)
