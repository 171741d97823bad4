"""Every adapter and every wrapper passes the contract of stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.minio_server import MinioServer
from tests.support.minio import address_of, credentials_of
from workflow.store import Store, open_store
from workflow.store.folder import FolderStore
from workflow.store.s3 import S3Store
from workflow.testing import FailingStore, MemoryStore, StoreContract
from workflow.testing.instrumented import InstrumentedStore


class TestMemory(StoreContract):
    """The store in memory."""

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestFolder(StoreContract):
    """The store in a folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FolderStore(str(tmp_path / "a" / "new" / "folder"))


class TestS3(StoreContract):
    """The S3 store with a real MinIO, below a prefix of a bucket."""

    @pytest.fixture
    def store(self, minio_server: MinioServer, bucket: str) -> Iterator[Store]:
        opened = S3Store(address_of(minio_server, bucket), credentials_of(minio_server))
        yield opened
        opened.close()


class TestFailing(StoreContract):
    """The failing wrapper, with no fault set."""

    @pytest.fixture
    def store(self) -> Store:
        return FailingStore(MemoryStore())


class TestInstrumented(StoreContract):
    """The counting wrapper."""

    @pytest.fixture
    def store(self) -> Store:
        return InstrumentedStore(MemoryStore())


class TestRetrying(StoreContract):
    """A store as `open_store` returns it, with the retrying wrapper."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path))
