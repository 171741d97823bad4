"""Fixtures of the tests on a real cluster: the operator is installed once, and each module has a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dev import cluster
from dev import release as dev_release
from tests.e2e.bucket import MARKS, Bucket
from tests.e2e.histories import Histories
from tests.e2e.kubectl import Kubectl
from tests.e2e.namespace import FLOWS, WorkflowNamespace
from tests.e2e.release import RELEASE_NAMESPACE, Release, install, remove, until_removed

NAMESPACES = (
    "e2e-resume",
    "e2e-shared",
    "e2e-tour",
    "e2e-refused",
    "e2e-evidence",
    "e2e-freed",
    "e2e-gone",
    "e2e-storm",
)
RESTRICTED = "e2e-tour"
"""A namespace with the restricted Pod Security Standard, and a quota that makes requests and limits mandatory."""
MEASUREMENTS: dict[str, str] = {}


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    return Kubectl(cluster.up())


@pytest.fixture(scope="session")
def release(kubectl: Kubectl) -> Iterator[Release]:
    remove(kubectl, NAMESPACES)  # an earlier test run may not have removed it
    until_removed(kubectl, NAMESPACES)
    release = install(kubectl, NAMESPACES)
    restrict(kubectl, RESTRICTED)
    yield release
    remove(kubectl, NAMESPACES)


def restrict(kubectl: Kubectl, namespace: str) -> None:
    """Enforce the restricted standard in a namespace, and requests and limits for each container."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    meta = {"name": "all", "namespace": namespace}
    defaults = {"type": "Container", "default": {"cpu": "4", "memory": "4Gi"}}
    hard = {"requests.cpu": "100", "requests.memory": "1Ti", "limits.cpu": "100", "limits.memory": "1Ti"}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": [defaults]}},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}},
    )


@pytest.fixture(scope="session")
def bucket(kubectl: Kubectl, release: Release) -> Iterator[Bucket]:
    with dev_release.storage(kubectl, RELEASE_NAMESPACE) as storage:
        dev_release.make_bucket(storage, MARKS)
        for namespace in NAMESPACES:
            dev_release.make_secret(kubectl, namespace, storage)
        bucket = Bucket(kubectl, storage)
        yield bucket
        bucket.close()


@pytest.fixture(scope="session")
def namespaces(kubectl: Kubectl, release: Release, bucket: Bucket) -> Iterator[dict[str, WorkflowNamespace]]:
    with ExitStack() as stack:
        created = {}
        for name in NAMESPACES:
            histories = stack.enter_context(Histories(kubectl, name).watching())
            created[name] = WorkflowNamespace(kubectl, release, bucket, histories, name)
            created[name].code("flows", {"flows.py": FLOWS})
        yield created


@pytest.fixture(scope="session")
def shared(namespaces: dict[str, WorkflowNamespace]) -> WorkflowNamespace:
    """A namespace with a RayCluster that Workflows select by its label."""
    namespace = namespaces["e2e-shared"]
    namespace.ray_cluster("shared", {"team": "e2e"})
    return namespace


@pytest.fixture(scope="session")
def measurements() -> dict[str, str]:
    """The measured values; they are printed at the end of the test run."""
    return MEASUREMENTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measured values."""
    if MEASUREMENTS:
        terminalreporter.section("measured on the real cluster")
        for name, figure in MEASUREMENTS.items():
            terminalreporter.write_line(f"{name}: {figure}")
