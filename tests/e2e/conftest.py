"""Fixtures of the tests on the real cluster: the operator installed once, a namespace for each module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dev import cluster
from dev import release as dev_release
from tests.e2e.bucket import MARKS, Bucket
from tests.e2e.kubectl import Kubectl
from tests.e2e.place import FLOWS, Place
from tests.e2e.release import HOME, Release, install, remove, until_removed
from tests.e2e.stories import Stories

NAMESPACES = ("e2e-resume", "e2e-shared", "e2e-tour", "e2e-refused")
FIGURES: dict[str, str] = {}


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    return Kubectl(cluster.up())


@pytest.fixture(scope="session")
def release(kubectl: Kubectl) -> Iterator[Release]:
    remove(kubectl, NAMESPACES)  # what an earlier run left that did not come to its end
    until_removed(kubectl, NAMESPACES)
    yield install(kubectl, NAMESPACES)
    remove(kubectl, NAMESPACES)


@pytest.fixture(scope="session")
def bucket(kubectl: Kubectl, release: Release) -> Iterator[Bucket]:
    with dev_release.storage(kubectl, HOME) as found:
        dev_release.make_bucket(found, MARKS)
        for namespace in NAMESPACES:
            dev_release.make_secret(kubectl, namespace, found)
        bucket = Bucket(kubectl, found)
        yield bucket
        bucket.close()


@pytest.fixture(scope="session")
def places(kubectl: Kubectl, release: Release, bucket: Bucket) -> Iterator[dict[str, Place]]:
    with ExitStack() as stack:
        made = {}
        for namespace in NAMESPACES:
            stories = stack.enter_context(Stories(kubectl, namespace).watching())
            place = made[namespace] = Place(kubectl, release, bucket, stories, namespace)
            place.code("flows", {"flows.py": FLOWS})
        yield made


@pytest.fixture(scope="session")
def shared(places: dict[str, Place]) -> Place:
    """A namespace with a RayCluster that Workflows choose by its label."""
    place = places["e2e-shared"]
    place.ray_cluster("shared", {"team": "e2e"})
    return place


@pytest.fixture(scope="session")
def figures() -> dict[str, str]:
    """What was measured; printed at the end of the run."""
    return FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if FIGURES:
        terminalreporter.section("measured on the real cluster")
        for name, figure in FIGURES.items():
            terminalreporter.write_line(f"{name}: {figure}")
