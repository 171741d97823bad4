"""One Ray of four logical CPUs for all tests that run in this process, and one folder store for each module."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before Ray is imported: its token would be written into the home of the user who runs the tests.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

import workflow
from tests.support.drivers import Tree, cluster
from tests.support.lean_ray import make_lean
from tests.support.marks import Marks
from workflow.engine.driver.actor import NAMESPACE
from workflow.store import Store, open_store

CREDENTIALS = os.path.join(tempfile.gettempdir(), f"rayworkflow-credentials-{os.getpid()}")
"""The AWS credentials file of all processes of the Ray below. It exists while tests run on S3."""


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray in this process. If two suites run in one process, they share it."""
    if ray.is_initialized():
        yield
        return
    folder = tempfile.mkdtemp(prefix="rw", dir="/tmp")  # Ray's sockets need a short path
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = CREDENTIALS
    make_lean()
    ray.init(
        num_cpus=4,
        num_gpus=1,
        resources={"special": 1, "accelerator_type:V100": 1},
        labels={"zone": "a"},
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
    )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def storage(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder that this module's workflows are kept in; its manager ends with the module."""
    folder = str(tmp_path_factory.mktemp("store"))
    workflow.init(folder)
    yield folder
    end_managers()


def end_managers() -> None:
    """End all managers of this Ray."""
    for named in ray.util.list_named_actors(all_namespaces=True):
        if named["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(named["name"], namespace=NAMESPACE), no_restart=True)


@pytest.fixture
def store(storage: str) -> Store:
    """The same, to look into."""
    return open_store(storage)


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    """Where this test's steps leave their marks."""
    return Marks(str(tmp_path))


@pytest.fixture
def wid(request: pytest.FixtureRequest) -> str:
    """A workflow id of this test's own."""
    return f"{request.node.originalname}-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder store, for drivers in processes of their own."""
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def ray_outside() -> Iterator[tuple[Tree, str]]:
    """A Ray that outlives its drivers, and its address; shared, so leave it as it was."""
    with cluster() as started:
        yield started
