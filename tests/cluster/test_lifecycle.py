"""The local cluster starts again after any of its parts was killed, and its removal leaves nothing on the machine.

These tests stop the only cluster of the machine and start it again at the end. The suites that use the cluster run
after them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import cluster, docker, network, paths
from dev.processes import Daemon, poll

PARTS = (
    "etcd",
    "kube-apiserver",
    "containerd",
    "kubelet",
    "kube-proxy",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "docker-registry",
)
without_docker = pytest.mark.skipif(
    docker.is_available(), reason="a Docker engine is running, so the cluster is a kind cluster"
)


@pytest.fixture(scope="module", autouse=True)
def running_cluster() -> Iterator[None]:
    cluster.up()
    yield
    cluster.up()


def daemon(part: str) -> Daemon:
    if part == "docker-registry":
        return Daemon(part, paths.state() / "registry")
    return Daemon(part, paths.state() / ("control-plane" if part in ("etcd", "kube-apiserver") else "node"))


def all_parts_run() -> bool:
    return all(cluster.status().values())


@without_docker
def test_second_up_starts_nothing() -> None:
    before = {part: daemon(part).pid() for part in PARTS}
    cluster.up()
    assert {part: daemon(part).pid() for part in PARTS} == before
    assert None not in before.values()


@without_docker
@pytest.mark.parametrize("part", PARTS)
def test_up_restarts_killed_part(part: str) -> None:
    kill(daemon(part).pid())
    assert poll(lambda: not daemon(part).running(), 10)
    cluster.up()
    assert all_parts_run()


@without_docker
def test_up_after_all_processes_were_killed() -> None:
    for pid in cluster.ProcessCluster().node.leftover_pids():
        kill(pid)
    assert poll(lambda: not any(daemon(part).running() for part in PARTS), 10)
    cluster.up()
    assert all_parts_run()


@without_docker
@pytest.mark.parametrize("killed_before", [False, True], ids=["healthy cluster", "all processes killed"])
def test_down_removes_everything(killed_before: bool) -> None:
    cluster.up()
    node = cluster.ProcessCluster().node
    namespaces = set(network_namespaces())
    if killed_before:
        for pid in node.leftover_pids():
            kill(pid)
    cluster.down()
    assert node.leftover_pids() == []
    assert cluster.mounts_below(paths.state()) == []
    assert cluster.mounts_below(paths.cache()) == []
    assert not network.bridge_exists()
    assert network.cluster_rules() == []
    assert namespaces
    assert not namespaces & set(network_namespaces())


@without_docker
def test_down_without_cluster_succeeds() -> None:
    cluster.down()
    cluster.down()


@pytest.mark.skipif(not docker.is_available(), reason="kind needs a Docker engine, and none is running on this machine")
def test_down_deletes_the_kind_cluster() -> None:
    cluster.down()
    assert not docker.cluster_exists()


def kill(pid: int | None) -> None:
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def network_namespaces() -> list[str]:
    folder = Path("/run/netns")
    return [path.name for path in folder.glob("cni-*")] if folder.is_dir() else []
