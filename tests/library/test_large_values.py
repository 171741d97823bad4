"""A value of 256 MiB uses its own size in the workers that produce and consume it, and nothing in the manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.minio_server import MinioServer
from tests.support.large import through_steps

SIZE = 256 << 20
MAX_WORKER_GROWTH = 1.5
MAX_MANAGER_GROWTH = 0.1


@pytest.fixture(params=["folder", "MinIO"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """The address of a store, and the environment variables with its credentials."""
    if request.param == "folder":
        return str(tmp_path / "store"), {}
    server: MinioServer = request.getfixturevalue("minio_server")
    credentials = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    return f"s3://{request.getfixturevalue('bucket')}/runs?endpoint={server.endpoint}", credentials


def test_large_value_is_not_copied(place: tuple[str, dict[str, str]]) -> None:
    url, credentials = place
    figures = through_steps(url, SIZE, **credentials)
    assert [each.kind for each in figures] == ["bytes", "array"]
    for each in figures:
        assert each.seen == SIZE, each
        for grown in (each.producer, each.consumer):
            assert SIZE * 0.9 <= grown <= SIZE * MAX_WORKER_GROWTH, each
        assert each.manager <= SIZE * MAX_MANAGER_GROWTH, each
