"""A garbage collection on a folder and on MinIO: over several list pages, it removes garbage and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.minio_server import MinioServer
from tests.support import runs
from tests.support.minio import address_of, credentials_of
from workflow.garbage import Collected, collect
from workflow.log import index, keys, registry
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.store import Store
from workflow.store.folder import FolderStore
from workflow.store.s3 import S3Store

OBJECTS = 1_200
"""Objects in the folder of a run that lost its number: more than one list page."""


@pytest.fixture(params=["folder", "minio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield FolderStore(str(tmp_path))
        return
    server: MinioServer = request.getfixturevalue("minio_server")
    opened = S3Store(address_of(server, request.getfixturevalue("bucket")), credentials_of(server))
    yield opened
    opened.close()


def test_collection_removes_invalid_runs_and_nothing_else(store: Store) -> None:
    for workflow_id in ("a", "a-b", "é/ü", "z"):
        created = runs.created(runs.graph("a"), workflow_id)
        index.set_status(store, workflow_id, index.LIVE, replaces=())
        registry.register(store, created)
        runs.append(RunLog(store, created), [runs.started("a")])
    kept = [info.key for info in store.list("")]
    for workflow_id in ("a-b", "é/ü"):  # the collection adds their entries; the folder a-b/ is listed before a/
        store.delete(keys.index(index.LIVE, workflow_id))
    loser = RunPaths("é/ü", 1, "loser")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: store.create(loser.blob(f"{n:064x}"), b"a value", f"{n}"), range(OBJECTS)))
    store.create(RunPaths("never created", 1, "begun").blob("f" * 64), b"a function", "1")
    collected = collect(store, grace=0)
    assert collected == Collected(runs=2, objects=OBJECTS + 1, abandoned=1, index_added=2)
    assert [info.key for info in store.list("")] == sorted([*kept, "workflows/never%20created/registry/0000000001"])
