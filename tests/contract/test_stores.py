"""Every adapter and every wrapper keeps the contract of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.store import Store, open_store
from workflow.store.folder import FolderStore
from workflow.testing import FailingStore, MemoryStore, StoreContract


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


class TestFailing(StoreContract):
    """The double that fails on purpose, with no fault set."""

    @pytest.fixture
    def store(self) -> Store:
        return FailingStore(MemoryStore())


class TestOpened(StoreContract):
    """As everybody opens it, with the wrapper that tries again."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path))
