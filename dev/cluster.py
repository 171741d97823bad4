"""`make cluster-up`, `cluster-down`, `cluster-status`: a real Kubernetes with KubeRay on one machine.

With a Docker engine the cluster is kind; without one it is built from binaries on this machine. Everything from "a
cluster exists" on is the same for both. Each step looks first whether its work is done, so that `up` may run again at
any time, also after anything was killed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Protocol

from dev import addons, binaries, docker, images, network, paths, registry, requirements
from dev.console import SetupError, run, say, stage
from dev.control_plane import ControlPlane, Settings
from dev.node import NAME, Node, control_groups
from dev.processes import Daemon, poll

_PROGRAMS: Final = (
    "minio",
    "etcd",
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kuberay-operator",
    "helm",
    "coredns",
    "pause",
)
_NODE_READY_WITHIN_SECONDS: Final = 90.0
# Nothing of what they would still write is kept.
_STOP_GRACE_SECONDS: Final = 3.0


class Cluster(Protocol):
    """One of the two ways to have a Kubernetes on this machine."""

    kubeconfig: Path

    def up(self) -> None:
        """Bring Kubernetes up, unless it is, and wait until its node takes pods."""

    def down(self) -> None:
        """Take it down and leave nothing behind."""

    def state(self) -> dict[str, bool]:
        """Each part and whether it runs."""


class FromBinaries:
    """A cluster of processes on this machine, for machines without a Docker engine.

    Attributes:
        kubeconfig: the file for an administrator.
        plane: etcd and the API server.
        node: the runtime, the kubelet and their like.
    """

    def __init__(self) -> None:
        folder = paths.state()
        settings = Settings(
            folder=folder / "control-plane",
            address=network.GATEWAY,
            port=6443,
            etcd_port=23790,
            etcd_peer_port=23800,
            service_cidr=network.SERVICE_CIDR,
            alone=False,
        )
        self.plane = ControlPlane(settings)
        self.node = Node(folder / "node", self.plane)
        self.kubeconfig = self.plane.kubeconfig

    def up(self) -> None:
        """Bring Kubernetes up, unless it is, and wait until its node takes pods."""
        requirements.check()
        requirements.install_packages()
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            # Unpacking and installing waits for the network and the disk, while compiling waits for the processor.
            slow_image = pool.submit(images.ray)
            binaries.ensure_all(_PROGRAMS)
            slow_image.result()
        self.node.folder.mkdir(parents=True, exist_ok=True)
        network.create()
        with _stage_unless(self.plane.answers(), "start the control plane"):
            self.plane.start()
        with _stage_unless(self._node_ready(), "start the node"):
            self.node.start_runtime(images.program("pause"))
            self.node.start_servers()
            if not poll(self._node_ready, _NODE_READY_WITHIN_SECONDS):
                for daemon in self.node.daemons():
                    daemon.wait(lambda: True, 0)  # one that ended says so better than a missing node does
                log = Daemon("kubelet", self.node.folder).log
                raise SetupError(f"the node did not become ready; its own words are in {log}")

    def down(self) -> None:
        """Take it down and leave nothing behind but logs and images."""
        servers = {daemon.name: daemon for daemon in self.node.daemons()}
        runtime = servers.pop("containerd")
        with stage("stop the cluster's servers"):
            for daemon in (*servers.values(), self.plane.api_server, self.plane.etcd):
                daemon.stop(_STOP_GRACE_SECONDS)
        if self.node.folder.exists() and shutil.which("containerd"):
            with stage("remove the containers"):
                if not runtime.running():
                    self.node.start_runtime("no pod is started any more")
                self.node.remove_containers()
                runtime.stop()
        with stage("remove mounts, network and state"):
            for pid in self.node.leftover_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            registry.daemon().stop()
            poll(lambda: not self.node.leftover_pids(), 10)
            unmount_below(paths.state())
            with images.exclusively():
                unmount_below(paths.cache())
            _remove_control_groups()
            if shutil.which("iptables-save"):
                network.remove()
            for folder in ("control-plane", "node/kubelet", "node/network", "node/containers", "node/pod-logs"):
                shutil.rmtree(paths.state() / folder, ignore_errors=True)

    def state(self) -> dict[str, bool]:
        """Each part and whether it runs."""
        daemons = (self.plane.etcd, self.plane.api_server, *reversed(self.node.daemons()), registry.daemon())
        return {**{daemon.name: daemon.running() for daemon in daemons}, "node ready": self._node_ready()}

    def _node_ready(self) -> bool:
        if not all(daemon.running() for daemon in self.node.daemons()) or not self.plane.answers():
            return False
        query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.plane.kubectl("get", "node", NAME, "--ignore-not-found", "-o", query) == "True"


class InDocker:
    """A kind cluster, for machines with a Docker engine."""

    def __init__(self) -> None:
        self.kubeconfig = paths.state() / "kind.kubeconfig"

    def up(self) -> None:
        """Bring Kubernetes up, unless it is, and wait until its node takes pods."""
        docker.create_cluster(self.kubeconfig)
        images.ray()

    def down(self) -> None:
        """Take it down and leave nothing behind."""
        with stage("delete the kind cluster"):
            docker.delete_cluster()

    def state(self) -> dict[str, bool]:
        """Each part and whether it runs."""
        return {"kind cluster": docker.cluster_exists()}


def choose() -> Cluster:
    """The way this machine can go."""
    return InDocker() if docker.answers() else FromBinaries()


def up() -> Path:
    """Bring the cluster up with KubeRay in it, and the images of the demo beside it.

    Returns:
        The kubeconfig of an administrator.

    Raises:
        SetupError: a stage failed.
    """
    cluster = choose()
    with _one_at_a_time():
        cluster.up()
        addons.deploy_kuberay(_kubectl(cluster), images.program("kuberay-operator"))
        images.program("minio")
    return cluster.kubeconfig


def down() -> None:
    """Take the cluster down; the cache stays."""
    with _one_at_a_time():
        choose().down()


def status() -> dict[str, bool]:
    """Each part of the cluster and whether it runs."""
    cluster = choose()
    parts = cluster.state()
    return {**parts, "kuberay": all(parts.values()) and addons.kuberay_answers(_kubectl(cluster))}


def _kubectl(cluster: Cluster) -> addons.Kubectl:
    def kubectl(*words: str, stdin: str | None = None) -> str:
        return run([binaries.ensure("kubectl"), "--kubeconfig", cluster.kubeconfig, *words], stdin=stdin)

    return kubectl


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, the deepest first."""
    for path in mounts_below(folder):
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def mounts_below(folder: Path) -> list[str]:
    """What is mounted below a folder, the deepest first."""
    failpoints = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in failpoints if point.startswith(f"{folder}/")), key=len, reverse=True)


def _one_at_a_time() -> contextlib.AbstractContextManager[None]:
    return binaries.locked(paths.cache() / "cluster.lock", "waiting for another command on the cluster")


def _stage_unless(done: bool, name: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if done else stage(name)


def _remove_control_groups() -> None:
    for root in control_groups():
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def main() -> int:
    """Run one of up, down, status."""
    parser = argparse.ArgumentParser(prog="python -m dev.cluster", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status"))
    command = parser.parse_args().command
    try:
        if command == "up":
            started = time.monotonic()
            kubeconfig = up()
            say(f"  ok  the cluster is up  {time.monotonic() - started:.1f} s")
            say(f"KUBECONFIG={kubeconfig}")
        elif command == "down":
            down()
        else:
            state = status()
            for part, runs in state.items():
                say(f"{'up' if runs else 'down':<5} {part}")
            say(f"KUBECONFIG={choose().kubeconfig}")
            return 0 if all(state.values()) else 1
    except SetupError as failed:
        print(f"\n{failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
