"""Every adapter and every wrapper keeps the contract of stores."""

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
    """In this process."""

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestFolder(StoreContract):
    """Files."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FolderStore(str(tmp_path / "not" / "yet" / "there"))


class TestS3(StoreContract):
    """A real MinIO, below a prefix of a bucket."""

    @pytest.fixture
    def store(self, minio_server: MinioServer, bucket: str) -> Iterator[Store]:
        opened = S3Store(address_of(minio_server, bucket), credentials_of(minio_server))
        yield opened
        opened.close()


class TestFailing(StoreContract):
    """The double that fails on purpose, with no fault set."""

    @pytest.fixture
    def store(self) -> Store:
        return FailingStore(MemoryStore())


class TestInstrumented(StoreContract):
    """The wrapper that counts."""

    @pytest.fixture
    def store(self) -> Store:
        return InstrumentedStore(MemoryStore())


class TestOpened(StoreContract):
    """As everybody opens it, with the wrapper that tries again."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path))
