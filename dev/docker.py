"""The Docker engine, if one is running, and the kind cluster inside it.

`dev.images` and `dev.cluster` prefer this way to the one without Docker.
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
def is_available() -> bool:
    """Return whether a Docker engine is running on this machine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def has_image(image: str) -> bool:
    """Return whether the engine has an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def load(image: str) -> None:
    """Copy an image from the engine into the cluster, unless the cluster has it."""
    node = f"{CLUSTER}-control-plane"
    found = subprocess.run(["docker", "exec", node, "crictl", "inspecti", image], capture_output=True, check=False)
    if found.returncode != 0:
        with stage(f"load {image} into the cluster"):
            run([binaries.ensure("kind"), "load", "docker-image", image, "--name", CLUSTER])


def pull_and_load(image: str) -> str:
    """Pull a public image and copy it into the cluster.

    Returns:
        The name of the image, unchanged.
    """
    if not has_image(image):
        with stage(f"pull {image}"):
            run(["docker", "pull", image])
    load(image)
    return image


def cluster_exists() -> bool:
    """Return whether the kind cluster exists."""
    return CLUSTER in run([binaries.ensure("kind"), "get", "clusters"]).split()


def create_cluster(kubeconfig: Path) -> None:
    """Create the kind cluster unless it exists, and write its kubeconfig."""
    kind = binaries.ensure("kind")
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    if not cluster_exists():
        with stage("create the kind cluster"):
            run([kind, "create", "cluster", "--name", CLUSTER, "--kubeconfig", kubeconfig, "--wait", "180s"])
    run([kind, "export", "kubeconfig", "--name", CLUSTER, "--kubeconfig", kubeconfig])


def delete_cluster() -> None:
    """Delete the kind cluster."""
    run([binaries.ensure("kind"), "delete", "cluster", "--name", CLUSTER])
