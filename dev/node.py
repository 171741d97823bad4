"""The single node of the cluster: container runtime, kubelet, kube-proxy, DNS server, controllers and scheduler.

`dev.cluster` uses this module. All files of the node are in one folder, and each server has a pid file there.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev import binaries, network
from dev.control_plane import ControlPlane
from dev.processes import Daemon, write_if_changed

NAME: Final = "rayworkflow"
_RUNTIME_TIMEOUT_SECONDS: Final = 30.0
_PROGRAMS: Final = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")


@dataclass(frozen=True)
class Node:
    """The node of the cluster.

    Attributes:
        folder: the folder of all its files.
        plane: the control plane of the cluster.
    """

    folder: Path
    plane: ControlPlane

    @property
    def socket(self) -> Path:
        """Return the path of the socket of containerd."""
        return self.folder / "containerd.sock"

    def daemons(self) -> list[Daemon]:
        """Return all servers of the node, in the order in which they must be stopped."""
        return [Daemon(name, self.folder) for name in (*reversed(_PROGRAMS), "containerd")]

    def start_runtime(self, pause_image: str) -> None:
        """Start containerd unless it runs, and wait until it responds.

        Args:
            pause_image: the reference of the pause image, which every pod sandbox runs.
        """
        plugins = network.write_plugin_config(self.folder / "network")
        config = write_if_changed(
            self.folder / "containerd.toml", _containerd_config(self.folder, plugins, pause_image)
        )
        runtime = Daemon("containerd", self.folder)
        runtime.start(["containerd", "--config", config], config=[config])
        runtime.wait(lambda: self._ctr("version").returncode == 0, _RUNTIME_TIMEOUT_SECONDS)

    def start_servers(self) -> None:
        """Start kubelet, kube-proxy, the DNS server, the controllers and the scheduler, unless they run."""
        built = binaries.ensure_all(_PROGRAMS)
        pki, url = self.plane.pki, self.plane.url
        users = {
            "kube-controller-manager": pki.issue("system:kube-controller-manager"),
            "kube-scheduler": pki.issue("system:kube-scheduler"),
            "kubelet": pki.issue(f"system:node:{NAME}", groups=["system:nodes"]),
            "kube-proxy": pki.issue("system:kube-proxy"),
            "coredns": pki.issue("admin", groups=["system:masters"]),
        }
        for name, user in users.items():
            pki.kubeconfig(self.kubeconfig(name), url, user)
        configs = {
            "kubelet": write_if_changed(self.folder / "kubelet.yaml", json.dumps(_kubelet_config(self))),
            "kube-proxy": write_if_changed(self.folder / "kube-proxy.yaml", json.dumps(_proxy_config(self))),
            "coredns": write_if_changed(self.folder / "Corefile", _corefile(self)),
        }
        for name in _PROGRAMS:
            files = [self.kubeconfig(name), *([configs[name]] if name in configs else [])]
            Daemon(name, self.folder).start([built[name], *_flags(self, name)], config=files)

    def kubeconfig(self, name: str) -> Path:
        """Return the path of the kubeconfig of one server."""
        return self.folder / f"{name}.kubeconfig"

    def remove_containers(self) -> None:
        """Kill and delete all containers of the node and their network namespaces. containerd must be running."""
        tasks = self._ctr("task", "list", "-q").stdout.split()
        containers = self._ctr("container", "list", "-q").stdout.split()
        namespaces = {path for name in containers for path in self._network_namespaces(name)}
        for task in tasks:
            self._ctr("task", "delete", "--force", task)
        for container in containers:
            self._ctr("container", "delete", container)
        for path in namespaces:
            subprocess.run(["umount", path], capture_output=True, check=False)
            path.unlink(missing_ok=True)

    def leftover_pids(self) -> list[int]:
        """Return the pids of all processes of the cluster.

        These are the processes in the control groups of pods, and all servers, also those without a pid file.
        """
        found = {pid for root in control_groups() for listing in root.rglob("cgroup.procs") for pid in _pids(listing)}
        found.update(pid for pid, words in _command_lines() if is_server_of(self.folder.parent, words))
        return sorted(found)

    def _network_namespaces(self, container: str) -> list[Path]:
        info = self._ctr("container", "info", container)
        if info.returncode != 0:
            return []
        namespaces = json.loads(info.stdout).get("Spec", {}).get("linux", {}).get("namespaces", [])
        paths = [entry.get("path", "") for entry in namespaces if entry["type"] == "network"]
        return [Path(path) for path in paths if "/cni-" in path]

    def _ctr(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def is_server_of(folder: Path, command: list[str]) -> bool:
    """Return whether a command line belongs to a server of the cluster.

    A server is recognized by its program name and by an argument that names a file below the folder. Other programs
    that use the folder, for example a reader of its logs, are not servers.

    Args:
        folder: the state folder of the cluster.
        command: the command line, split into words.
    """
    program = Path(command[0]).name
    known = program in (*_PROGRAMS, "containerd", "etcd", "kube-apiserver", "docker-registry")
    return (known or program.startswith("containerd-shim")) and any(f"{folder}/" in word for word in command)


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (line := (entry / "cmdline").read_text(errors="replace")):
                yield int(entry.name), line.split("\0")


def _pids(listing: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in listing.read_text().split()]
    return []


def control_groups() -> list[Path]:
    """Return the parent control groups of all pods, one per cgroup hierarchy."""
    root = Path("/sys/fs/cgroup")
    return [*root.glob("kubepods"), *root.glob("*/kubepods")]


def _flags(node: Node, name: str) -> list[str]:
    kubeconfig = f"--kubeconfig={node.kubeconfig(name)}"
    pki = node.plane.pki
    return {
        "kube-controller-manager": [
            kubeconfig,
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={pki.service_accounts}",
            f"--root-ca-file={pki.ca.certificate}",
        ],
        "kube-scheduler": [kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false"],
        "kubelet": [
            kubeconfig,
            f"--config={node.folder / 'kubelet.yaml'}",
            f"--root-dir={node.folder / 'kubelet'}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.GATEWAY}",
        ],
        "kube-proxy": [f"--config={node.folder / 'kube-proxy.yaml'}", f"--hostname-override={NAME}"],
        "coredns": ["-conf", str(node.folder / "Corefile")],
    }[name]


def _kubelet_config(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.GATEWAY,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(node.plane.pki.ca.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "clusterDNS": [network.GATEWAY],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "podLogsDir": str(node.folder / "pod-logs"),
        # The machine may use cgroup v1 and swap, and may lack systemd.
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "serializeImagePulls": False,
        # By default, the kubelet evicts pods and deletes images when the disk of the machine is rather full.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _proxy_config(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.kubeconfig("kube-proxy"))},
        "mode": "iptables",
        "clusterCIDR": network.POD_CIDR,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nodePortAddresses": ["primary"],
        "iptables": {"localhostNodePorts": False},
        # 0 leaves the size of the connection table unchanged. It may be read-only on this machine.
        "conntrack": {"maxPerCore": 0},
    }


def _corefile(node: Node) -> str:
    return f""".:53 {{
    bind {network.GATEWAY}
    errors
    ready 127.0.0.1:18181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {node.kubeconfig("coredns")}
    }}
    cache 5
    forward . /etc/resolv.conf
}}
"""


def _containerd_config(folder: Path, network_config: Path, pause_image: str) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{folder / "images"}"
state = "{folder / "containers"}"
[grpc]
address = "{folder / "containerd.sock"}"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder / "opt"}"
[{cri}]
sandbox_image = "{pause_image}"
# Root may lack CAP_SYS_RESOURCE. Lowering an OOM score then fails, and no sandbox starts.
restrict_oom_score_adj = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{network_config}"
[{cri}.containerd]
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
