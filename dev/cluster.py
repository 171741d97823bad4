"""`make cluster-up`, `cluster-down` and `cluster-status`: a Kubernetes cluster with KubeRay on one machine.

With a Docker engine, the cluster is a kind cluster. Without one, its servers run as processes on this machine. All
later stages are the same in both cases. Each stage first checks whether its work is already done. `up` can therefore
run again at any time, also after a part of the cluster was killed.
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
from dev.console import SetupError, print_line, run, stage
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
_NODE_READY_TIMEOUT_SECONDS: Final = 90.0
# The servers need no long shutdown, because `down` deletes their data.
_STOP_GRACE_SECONDS: Final = 3.0


class Cluster(Protocol):
    """A Kubernetes cluster on this machine."""

    kubeconfig: Path

    def up(self) -> None:
        """Start Kubernetes unless it runs, and wait until its node is ready."""

    def down(self) -> None:
        """Stop Kubernetes and remove what it left on the machine."""

    def state(self) -> dict[str, bool]:
        """Return whether each part runs, by name."""


class ProcessCluster:
    """A cluster whose servers are processes on this machine, for machines without a Docker engine.

    Attributes:
        kubeconfig: the path of an administrator's kubeconfig.
        plane: etcd and the API server.
        node: the other servers.
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
            standalone=False,
        )
        self.plane = ControlPlane(settings)
        self.node = Node(folder / "node", self.plane)
        self.kubeconfig = self.plane.kubeconfig

    def up(self) -> None:
        """Start Kubernetes unless it runs, and wait until its node is ready."""
        requirements.check()
        requirements.install_packages()
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            # The image waits for the network and the disk, the compiler for the processor: do both at once.
            ray_image = pool.submit(images.ray)
            binaries.ensure_all(_PROGRAMS)
            ray_image.result()
        self.node.folder.mkdir(parents=True, exist_ok=True)
        network.create()
        with _stage_unless(self.plane.is_ready(), "start the control plane"):
            self.plane.start()
        with _stage_unless(self._node_ready(), "start the node"):
            self.node.start_runtime(images.program("pause"))
            self.node.start_servers()
            if not poll(self._node_ready, _NODE_READY_TIMEOUT_SECONDS):
                for daemon in self.node.daemons():
                    daemon.wait(lambda: True, 0)  # raises for a server that exited, which names the cause better
                log = Daemon("kubelet", self.node.folder).log
                raise SetupError(
                    f"cannot start the node: it was not ready within {_NODE_READY_TIMEOUT_SECONDS:.0f} s; "
                    f"read {log}, fix the cause and run `make cluster-up` again"
                )

    def down(self) -> None:
        """Stop all servers and remove containers, mounts, network and data.

        The logs of the node and the images that it pulled are kept.
        """
        servers = {daemon.name: daemon for daemon in self.node.daemons()}
        runtime = servers.pop("containerd")
        with stage("stop the cluster's servers"):
            for daemon in (*servers.values(), self.plane.api_server, self.plane.etcd):
                daemon.stop(_STOP_GRACE_SECONDS)
        if self.node.folder.exists() and shutil.which("containerd"):
            with stage("remove the containers"):
                if not runtime.running():
                    self.node.start_runtime("unused: no pod starts from here on")
                self.node.remove_containers()
                runtime.stop()
        with stage("remove mounts, network and state"):
            for pid in self.node.leftover_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            registry.daemon().stop()
            poll(lambda: not self.node.leftover_pids(), 10)
            unmount_below(paths.state())
            with images.build_lock():
                unmount_below(paths.cache())
            _remove_control_groups()
            if shutil.which("iptables-save"):
                network.remove()
            for folder in ("control-plane", "node/kubelet", "node/network", "node/containers", "node/pod-logs"):
                shutil.rmtree(paths.state() / folder, ignore_errors=True)

    def state(self) -> dict[str, bool]:
        """Return whether each part runs, by name."""
        daemons = (self.plane.etcd, self.plane.api_server, *reversed(self.node.daemons()), registry.daemon())
        return {**{daemon.name: daemon.running() for daemon in daemons}, "node ready": self._node_ready()}

    def _node_ready(self) -> bool:
        if not all(daemon.running() for daemon in self.node.daemons()) or not self.plane.is_ready():
            return False
        query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.plane.kubectl("get", "node", NAME, "--ignore-not-found", "-o", query) == "True"


class KindCluster:
    """A kind cluster, for machines with a Docker engine."""

    def __init__(self) -> None:
        self.kubeconfig = paths.state() / "kind.kubeconfig"

    def up(self) -> None:
        """Start Kubernetes unless it runs, and wait until its node is ready."""
        docker.create_cluster(self.kubeconfig)
        images.ray()

    def down(self) -> None:
        """Delete the kind cluster."""
        with stage("delete the kind cluster"):
            docker.delete_cluster()

    def state(self) -> dict[str, bool]:
        """Return whether each part runs, by name."""
        return {"kind cluster": docker.cluster_exists()}


def choose() -> Cluster:
    """Return the kind of cluster that this machine supports."""
    return KindCluster() if docker.is_available() else ProcessCluster()


def up() -> Path:
    """Start the cluster, install KubeRay, and build the images of Ray and MinIO.

    Returns:
        The path of an administrator's kubeconfig.

    Raises:
        SetupError: a stage failed.
    """
    cluster = choose()
    with _cluster_lock():
        cluster.up()
        addons.deploy_kuberay(_kubectl(cluster), images.program("kuberay-operator"))
        images.program("minio")
    return cluster.kubeconfig


def down() -> None:
    """Stop and remove the cluster. The cache is kept."""
    with _cluster_lock():
        choose().down()


def status() -> dict[str, bool]:
    """Return whether each part of the cluster runs, by name. KubeRay is one of the parts."""
    cluster = choose()
    parts = cluster.state()
    return {**parts, "kuberay": all(parts.values()) and addons.kuberay_responds(_kubectl(cluster))}


def _kubectl(cluster: Cluster) -> addons.Kubectl:
    def kubectl(*words: str, stdin: str | None = None) -> str:
        return run([binaries.ensure("kubectl"), "--kubeconfig", cluster.kubeconfig, *words], stdin=stdin)

    return kubectl


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, deepest path first."""
    for path in mounts_below(folder):
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points below a folder, deepest path first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)


def _cluster_lock() -> contextlib.AbstractContextManager[None]:
    return binaries.locked(paths.cache() / "cluster.lock", "wait for another cluster command")


def _stage_unless(done: bool, name: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if done else stage(name)


def _remove_control_groups() -> None:
    for root in control_groups():
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def main() -> int:
    """Run the command `up`, `down` or `status`."""
    parser = argparse.ArgumentParser(prog="python -m dev.cluster", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status"))
    command = parser.parse_args().command
    try:
        if command == "up":
            started = time.monotonic()
            kubeconfig = up()
            print_line(f"  ok  cluster is up  {time.monotonic() - started:.1f} s")
            print_line(f"KUBECONFIG={kubeconfig}")
        elif command == "down":
            down()
        else:
            state = status()
            for part, runs in state.items():
                print_line(f"{'up' if runs else 'down':<5} {part}")
            print_line(f"KUBECONFIG={choose().kubeconfig}")
            return 0 if all(state.values()) else 1
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
