"""The Docker engine, where one answers, and the kind cluster inside it.

Called by `dev.images` and `dev.cluster`, which take this path before the one without Docker.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Final

from dev import binaries
from dev.console import run, stage

CLUSTER: Final = "rayworkflow-dev"


@functools.cache
def answers() -> bool:
    """Whether a Docker engine answers on this machine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def holds(image: str) -> bool:
    """Whether the engine has an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def load(image: str) -> None:
    """Copy an image of the engine into the cluster, unless it is there."""
    node = f"{CLUSTER}-control-plane"
    known = subprocess.run(["docker", "exec", node, "crictl", "inspecti", image], capture_output=True, check=False)
    if known.returncode != 0:
        with stage(f"load {image} into the cluster"):
            run([binaries.ensure("kind"), "load", "docker-image", image, "--name", CLUSTER])


def pull_and_load(image: str) -> str:
    """Fetch a public image and copy it into the cluster.

    Returns:
        The image's name, unchanged.
    """
    if not holds(image):
        with stage(f"pull {image}"):
            run(["docker", "pull", image])
    load(image)
    return image


def cluster_exists() -> bool:
    """Whether the kind cluster is there."""
    return CLUSTER in run([binaries.ensure("kind"), "get", "clusters"]).split()


def create_cluster(kubeconfig: Path) -> None:
    """Create the kind cluster unless it is there, and write its kubeconfig."""
    kind = binaries.ensure("kind")
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    if not cluster_exists():
        with stage("create the kind cluster"):
            run([kind, "create", "cluster", "--name", CLUSTER, "--kubeconfig", kubeconfig, "--wait", "180s"])
    run([kind, "export", "kubeconfig", "--name", CLUSTER, "--kubeconfig", kubeconfig])


def delete_cluster() -> None:
    """Delete the kind cluster."""
    run([binaries.ensure("kind"), "delete", "cluster", "--name", CLUSTER])
