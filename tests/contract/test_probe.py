"""All stores of the library pass the probe, which leaves no object in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.minio_server import MinioServer
from tests.support.minio import address_of
from workflow.store import open_store
from workflow.store.probe import probe


def test_folder_passes(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    probe(store)
    assert list(store.list("")) == []


def test_memory_passes() -> None:
    store = open_store("memory://probed")
    probe(store)
    assert list(store.list("")) == []


def test_minio_passes(minio_server: MinioServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio_server.secret_key)
    store = open_store(address_of(minio_server, bucket).url)
    probe(store)
    assert list(store.list("")) == []
    store.close()
