"""Runs on an S3 store, a real MinIO: kills of Ray, restarts of the store, and network faults."""

from __future__ import annotations

import pytest

from dev.minio_server import MinioServer
from tests.support import checker, invariants
from tests.support.drivers import driver
from tests.support.history import Expected
from tests.support.lossy import LossyProxy, NetworkFaults
from tests.support.marks import Marks
from tests.support.minio import client_of
from tests.support.pipeline import EXPECTED, STEP_IDS
from tests.support.stored import in_bucket
from tests.support.waiting import until
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.store import Store, open_store


@pytest.fixture
def credentials(minio_server: MinioServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The credentials, in the environment, where a user gives them."""
    given = {"AWS_ACCESS_KEY_ID": minio_server.access_key, "AWS_SECRET_ACCESS_KEY": minio_server.secret_key}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def committed(store: Store) -> int:
    view = read_run(store, "w")
    return view.counts.succeeded if view is not None else 0


def test_run_survives_kill_and_restart_of_the_store(
    marks: Marks, bucket: str, minio_server: MinioServer, credentials: dict[str, str]
) -> None:
    url = f"s3://{bucket}/runs?endpoint={minio_server.endpoint}"
    store = open_store(url)
    with driver("pipeline.py", url, marks.folder, "w", "run", **credentials) as first:
        marks.wait_started("work3", timeout=180)
        until(lambda: committed(store) >= 7)
        first.kill()
    before = invariants.executed(store, "w")
    with driver("pipeline.py", url, marks.folder, "w", "take-over", **credentials) as second:
        marks.wait_started("work3", times=2, timeout=180)
        minio_server.stop()
        marks.open("work")  # the step ends while the store is stopped
        minio_server.start()
        assert "as expected" in second.printed("result")
        assert second.ended() == 0
    assert invariants.executed(store, "w")[: len(before)] == before
    view = read_run(store, "w")
    assert view is not None
    assert (view.status, view.epoch) == (WorkflowStatus.SUCCESSFUL, 2)
    assert all(times <= 2 for times in marks.starts().values())
    checker.check(in_bucket(client_of(minio_server), bucket, "runs"), "w", expected=Expected(str(EXPECTED)))


def test_run_survives_network_faults(
    marks: Marks, bucket: str, minio_server: MinioServer, credentials: dict[str, str]
) -> None:
    """Replies are lost, refused or slow, and the store has outages, for driver, manager and workers."""
    marks.open("work")
    with LossyProxy(minio_server.port) as proxy:
        faults = proxy.faults = NetworkFaults(1)
        url = f"s3://{bucket}/runs?endpoint={proxy.endpoint}"
        with driver("pipeline.py", url, marks.folder, "w", "run", **credentials) as script:
            assert "as expected" in script.printed("result")
            assert script.ended() == 0
    assert faults.counts["outages"]
    assert faults.counts["lost"] + faults.counts["gateway"]
    assert marks.starts() == {**dict.fromkeys(STEP_IDS, 1), "work1": 2}, "its first attempt always fails"
    history = checker.check(in_bucket(client_of(minio_server), bucket, "runs"), "w", expected=Expected(str(EXPECTED)))
    assert history.end == "SUCCESSFUL"
    assert set(history.claims) == {1}
