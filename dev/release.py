"""Puts what this checkout holds into a cluster: both charts, with the MinIO of the chart, and what a namespace needs.

Called by the demo and by the end-to-end tests.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import urllib3
from minio import Minio

from dev import images, paths
from dev.console import stage
from dev.kube import Kube

NAMESPACE: Final = "rayworkflow-system"
NAME: Final = "rayworkflow"
SECRET: Final = "rayworkflow-storage"
BUCKET: Final = "workflows"
_MINIO: Final = f"{NAME}-minio"


@dataclass(frozen=True)
class Storage:
    """The MinIO of the chart, reached from this machine.

    Attributes:
        address: `127.0.0.1:PORT`, forwarded.
        inside: its endpoint for pods.
        access_key, secret_key: of its root user.
    """

    address: str
    inside: str
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def client(self) -> Minio:
        """A client that gives up after a while."""
        pool = urllib3.PoolManager(timeout=10, retries=urllib3.Retry(total=3, backoff_factor=0.2))
        return Minio(self.address, self.access_key, self.secret_key, secure=False, http_client=pool)


def install(kube: Kube, *namespaces: str, home: str = NAMESPACE) -> None:
    """Install both charts, or upgrade them to this checkout, and wait until the operator answers.

    Args:
        kube: the cluster; KubeRay runs in it.
        namespaces: whose Workflows are served; made where they are missing.
        home: the release's own namespace; made where it is missing.
    """
    for namespace in namespaces:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    operator, minio = images.operator(), images.program("minio")
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home, "labels": restricted}})
    values = {
        "image": _image(operator),
        "minio": {"enabled": True, "image": _image(minio)},
        "pollSeconds": 0.5,
        "watchNamespaces": list(namespaces),
    }
    with stage("helm: install rayworkflow-crds"):
        _helm_install(kube, home, "rayworkflow-crds", {})
    with stage("helm: install rayworkflow, with MinIO"):
        _helm_install(kube, home, NAME, values)


@contextlib.contextmanager
def storage(kube: Kube, home: str = NAMESPACE) -> Iterator[Storage]:
    """The chart's MinIO, inside the block; makes the bucket of workflows."""
    secret = kube.get("secret", _MINIO, home)
    assert secret is not None, "the chart makes it"
    keys = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    with kube.forwarded(home, f"service/{_MINIO}", 9000) as address:
        found = Storage(
            address,
            f"http://{_MINIO}.{home}.svc:9000",
            keys["AWS_ACCESS_KEY_ID"],
            keys["AWS_SECRET_ACCESS_KEY"],
        )
        make_bucket(found, BUCKET)
        yield found


def make_bucket(found: Storage, name: str) -> None:
    """Make a bucket unless it is there."""
    if not found.client.bucket_exists(name):
        found.client.make_bucket(name)


def make_secret(kube: Kube, name: str, found: Storage) -> None:
    """Make the Secret that the Workflows of a namespace and the operator read.

    Args:
        kube: the cluster.
        name: the namespace.
        found: whose credentials the Secret holds.
    """
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": name},
        "stringData": {"AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key},
    }
    kube.apply(secret)


def _helm_install(kube: Kube, home: str, chart: str, values: Mapping[str, Any]) -> None:
    # Ownership: there is one of each definition in a cluster, whoever brought it first.
    options = ("--namespace", home, "--take-ownership", "--wait", "--timeout", "3m", "--history-max", "3")
    kube.helm(
        "upgrade",
        "--install",
        chart,
        paths.ROOT / "charts" / chart,
        *options,
        "--values",
        "-",
        stdin=json.dumps(values),
    )


def _image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag}
