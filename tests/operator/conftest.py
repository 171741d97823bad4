"""Fixtures of the operator's tests: one control plane per session, and a namespace with fakes for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dev import binaries, processes
from dev.console import SetupError
from dev.control_plane import ControlPlane
from tests.operator.fake_kuberay import FakeKubeRay
from tests.operator.fake_manager import FakeManager
from tests.operator.fake_ray import FakeRay
from tests.operator.harness import Harness, settings_for
from workflow_operator.adapters.kube import connected
from workflow_operator.adapters.packages import DEPENDENCIES

CRDS = Path(__file__).parents[2] / "crds"
NUMBERS = count(1)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    kuberay = binaries.asset("kuberay-operator", "config") / "crd" / "bases" / "ray.io_rayclusters.yaml"
    with ControlPlane() as plane:
        plane.kubectl("apply", "--server-side", "-f", str(CRDS), "-f", str(kuberay))
        assert processes.poll(lambda: serves_crds(plane), 30), "the API server does not serve the custom resources"
        yield plane


def serves_crds(plane: ControlPlane) -> bool:
    try:
        plane.kubectl("get", "workflows,rayclusters", "--all-namespaces")
    except SetupError:
        return False
    return True


@pytest.fixture
def restart(plane: ControlPlane) -> Callable[[], None]:
    return plane.restart


@pytest.fixture
def free_port() -> int:
    return processes.free_port()


@pytest.fixture
async def harness(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Harness]:
    namespace, manager = f"team-{next(NUMBERS)}", FakeManager()
    plane.kubectl("create", "namespace", namespace)
    (tmp_path / "library" / DEPENDENCIES).mkdir(parents=True)
    async with (
        FakeRay(token="token-of-the-cluster", behaviour=manager.run).serving() as ray,
        connected(str(plane.kubeconfig)) as kube,
        FakeKubeRay(kube, ray).running() as kuberay,
    ):
        settings = settings_for(tmp_path, namespace, plane.kubeconfig, ray)
        yield Harness(kube, ray, kuberay, manager, namespace, settings)
