"""The pod network on this machine: its bridge, its addresses and its firewall rules.

`dev.cluster` creates and removes the network. The node writes the configuration of the network plugins.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from dev.console import run
from dev.processes import write_if_changed

BRIDGE: Final = "rwf0"
# 198.18.0.0/15 is reserved for benchmarks, so it does not collide with a private network of an office or a cloud.
POD_CIDR: Final = "198.18.0.0/16"
SERVICE_CIDR: Final = "198.19.0.0/16"
# The kernel may have no dummy device, so the address of the bridge is also that of the node and of the API server.
GATEWAY: Final = "198.18.0.1"
_RULE_COMMENT: Final = "rayworkflow-dev"
_CLUSTER_WORDS: Final = ("KUBE-", _RULE_COMMENT)


def create() -> None:
    """Create the bridge, enable IP forwarding and masquerade the traffic of pods, unless all of it is set up."""
    if not bridge_exists():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{GATEWAY}/{POD_CIDR.split('/')[1]}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    rule = [
        "POSTROUTING",
        "-s",
        POD_CIDR,
        "!",
        "-o",
        BRIDGE,
        "-m",
        "comment",
        "--comment",
        _RULE_COMMENT,
        "-j",
        "MASQUERADE",
    ]
    existing = subprocess.run(["iptables", "-w", "-t", "nat", "-C", *rule], capture_output=True, check=False)
    if existing.returncode != 0:
        run(["iptables", "-w", "-t", "nat", "-A", *rule])


def write_plugin_config(folder: Path) -> Path:
    """Write the CNI configuration of the pod network.

    Args:
        folder: the parent of the configuration folder; the plugins also record the addresses in use there.

    Returns:
        The configuration folder.
    """
    config = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_CIDR, "rangeStart": "198.18.1.1", "gateway": GATEWAY}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(folder / "addresses"),
                },
            }
        ],
    }
    target = folder / "conf"
    write_if_changed(target / "10-pods.conflist", json.dumps(config, indent=1))
    return target


def remove() -> None:
    """Remove the bridge and all firewall chains and rules of the cluster."""
    if bridge_exists():
        run(["ip", "link", "delete", BRIDGE])
    for program in ("iptables", "ip6tables"):
        dump = run([f"{program}-save"])
        cleaned = without_cluster_rules(dump)
        if cleaned != dump:
            run([f"{program}-restore"], stdin=cleaned)


def bridge_exists() -> bool:
    """Return whether the bridge exists."""
    return Path(f"/sys/class/net/{BRIDGE}").exists()


def cluster_rules() -> list[str]:
    """Return all firewall chains and rules of the cluster, one line each."""
    dumps = [run([f"{program}-save"]) for program in ("iptables", "ip6tables")]
    return [line for dump in dumps for line in dump.splitlines() if _belongs_to_cluster(line)]


def without_cluster_rules(dump: str) -> str:
    """Remove the chains and rules of the cluster from a firewall dump.

    Args:
        dump: the output of `iptables-save`.

    Returns:
        The dump without lines that name a Kubernetes chain or contain the comment of this cluster.
    """
    return "".join(line for line in dump.splitlines(keepends=True) if not _belongs_to_cluster(line))


def _belongs_to_cluster(line: str) -> bool:
    return not line.startswith("#") and any(word in line for word in _CLUSTER_WORDS)
