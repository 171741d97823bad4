"""The pods' network on this machine: one bridge, one address plan, and what has to go when the cluster goes.

Called by the node on the way up and by `dev.cluster` on the way down.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from dev.console import run
from dev.processes import write

BRIDGE: Final = "rwf0"
# Addresses set aside for benchmarks: they collide with no private network of an office, a cloud or a CI runner.
POD_CIDR: Final = "198.18.0.0/16"
SERVICE_CIDR: Final = "198.19.0.0/16"
# The kernel may have no dummy device, so the bridge's own address is also the node's and the API server's.
GATEWAY: Final = "198.18.0.1"
_MARK: Final = "rayworkflow-dev"
_OURS: Final = ("KUBE-", _MARK)


def create() -> None:
    """Make the bridge and let pods reach what the machine reaches; nothing happens when both are there."""
    if not bridge_exists():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{GATEWAY}/{POD_CIDR.split('/')[1]}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    rule = ["POSTROUTING", "-s", POD_CIDR, "!", "-o", BRIDGE, "-m", "comment", "--comment", _MARK, "-j", "MASQUERADE"]
    known = subprocess.run(["iptables", "-w", "-t", "nat", "-C", *rule], capture_output=True, check=False)
    if known.returncode != 0:
        run(["iptables", "-w", "-t", "nat", "-A", *rule])


def write_plugin_config(folder: Path) -> Path:
    """Write what the container runtime tells the network plugins.

    Args:
        folder: where it goes, and where the plugins note the addresses they gave.

    Returns:
        The folder that holds just the configuration.
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
    write(target / "10-pods.conflist", json.dumps(config, indent=1))
    return target


def remove() -> None:
    """Remove the bridge and every chain and rule that the cluster brought."""
    if bridge_exists():
        run(["ip", "link", "delete", BRIDGE])
    for program in ("iptables", "ip6tables"):
        dump = run([f"{program}-save"])
        cleaned = without_ours(dump)
        if cleaned != dump:
            run([f"{program}-restore"], stdin=cleaned)


def bridge_exists() -> bool:
    """Whether the bridge is there."""
    return Path(f"/sys/class/net/{BRIDGE}").exists()


def chains() -> list[str]:
    """What iptables still holds of the cluster, line by line."""
    dumps = [run([f"{program}-save"]) for program in ("iptables", "ip6tables")]
    return [line for dump in dumps for line in dump.splitlines() if _is_ours(line)]


def without_ours(dump: str) -> str:
    """A firewall without the cluster's chains and rules.

    Args:
        dump: what `iptables-save` printed.

    Returns:
        The same text without lines that name a chain of Kubernetes or carry this cluster's mark.
    """
    return "".join(line for line in dump.splitlines(keepends=True) if not _is_ours(line))


def _is_ours(line: str) -> bool:
    return not line.startswith("#") and any(word in line for word in _OURS)
