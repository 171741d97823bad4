"""One real MinIO server for all tests that ask for it, with a bucket of its own for each of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from minio import Minio

from dev.minio_server import MinioServer


@pytest.fixture(scope="session")
def minio_server() -> Iterator[MinioServer]:
    """A running server."""
    with MinioServer() as server:
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
