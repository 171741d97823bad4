"""Fixtures for tests with a real MinIO: one server for the whole test session, and a new bucket for each test."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from minio import Minio
from minio.credentials.providers import AWSConfigProvider

from dev.minio_server import MinioServer
from workflow.store.s3 import S3Address, S3Credentials


@pytest.fixture(scope="session")
def minio_server() -> Iterator[MinioServer]:
    """Run one server for the whole test session."""
    with contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            # The server is identified by its recorded pid, so its Popen object may be dropped while it runs.
            warnings.simplefilter("ignore", ResourceWarning)
            server = stack.enter_context(MinioServer())
        yield server


def client_of(server: MinioServer) -> Minio:
    """Return a plain client with the root credentials of the server."""
    return Minio(
        server.endpoint.removeprefix("http://"),
        access_key=server.access_key,
        secret_key=server.secret_key,
        secure=False,
        region="us-east-1",
    )


def client_at(url: str) -> tuple[Minio, str, str]:
    """Return a plain client with the credentials of the user's profile, the bucket and the prefix of an address."""
    parts = urlsplit(url)
    endpoint = urlsplit(parse_qs(parts.query)["endpoint"][0])
    client = Minio(
        endpoint.netloc, credentials=AWSConfigProvider(), secure=endpoint.scheme == "https", region="us-east-1"
    )
    return client, parts.netloc, parts.path.strip("/")


@pytest.fixture
def bucket(minio_server: MinioServer) -> str:
    """Create an empty bucket and return its name."""
    name = f"test-{uuid.uuid4().hex}"
    client_of(minio_server).make_bucket(name)
    return name


def address_of(server: MinioServer, bucket: str) -> S3Address:
    """Return the address of a store below a prefix of a bucket."""
    return S3Address(bucket, "some/prefix", server.endpoint, "us-east-1")


def credentials_of(server: MinioServer) -> S3Credentials:
    """Return the root credentials of the server."""
    return S3Credentials(server.access_key, server.secret_key)
