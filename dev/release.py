"""Installs the charts of this checkout into a cluster, with the chart's MinIO, and prepares namespaces for Workflows.

The demo and the end-to-end tests use this module.
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
    """Addresses and credentials of the chart's MinIO.

    Attributes:
        address: the forwarded address on this machine, `127.0.0.1:PORT`.
        cluster_endpoint: the endpoint URL for pods of the cluster.
        access_key: the access key of the root user.
        secret_key: the secret key of the root user.
    """

    address: str
    cluster_endpoint: str
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def client(self) -> Minio:
        """Return a client with a timeout of 10 seconds and 3 retries per request."""
        pool = urllib3.PoolManager(timeout=10, retries=urllib3.Retry(total=3, backoff_factor=0.2))
        return Minio(self.address, self.access_key, self.secret_key, secure=False, http_client=pool)


def install(kube: Kube, *namespaces: str, release_namespace: str = NAMESPACE) -> None:
    """Install or upgrade both charts to this checkout, and wait until the operator is ready.

    Args:
        kube: a cluster with KubeRay.
        namespaces: the namespaces that the operator watches for Workflows; created if they do not exist.
        release_namespace: the namespace of the Helm release; created if it does not exist.
    """
    for namespace in namespaces:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    operator, minio = images.operator(), images.program("minio")
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": release_namespace, "labels": restricted}})
    values = {
        "image": _image(operator),
        "minio": {"enabled": True, "image": _image(minio)},
        "pollSeconds": 0.5,
        "watchNamespaces": list(namespaces),
    }
    with stage("helm: install rayworkflow-crds"):
        _helm_install(kube, release_namespace, "rayworkflow-crds", {})
    with stage("helm: install rayworkflow, with MinIO"):
        _helm_install(kube, release_namespace, NAME, values)


@contextlib.contextmanager
def storage(kube: Kube, release_namespace: str = NAMESPACE) -> Iterator[Storage]:
    """Make the chart's MinIO reachable from this machine while the block runs, and create the bucket for workflows."""
    secret = kube.get("secret", _MINIO, release_namespace)
    assert secret is not None, "the chart creates this Secret"
    keys = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    with kube.forwarded(release_namespace, f"service/{_MINIO}", 9000) as address:
        minio = Storage(
            address,
            f"http://{_MINIO}.{release_namespace}.svc:9000",
            keys["AWS_ACCESS_KEY_ID"],
            keys["AWS_SECRET_ACCESS_KEY"],
        )
        make_bucket(minio, BUCKET)
        yield minio


def make_bucket(minio: Storage, name: str) -> None:
    """Create a bucket unless it exists."""
    if not minio.client.bucket_exists(name):
        minio.client.make_bucket(name)


def make_secret(kube: Kube, namespace: str, minio: Storage) -> None:
    """Create the storage Secret that the operator and the Workflows of a namespace read.

    Args:
        kube: the cluster.
        namespace: the namespace of the Secret.
        minio: the MinIO whose credentials are stored in the Secret.
    """
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace},
        "stringData": {"AWS_ACCESS_KEY_ID": minio.access_key, "AWS_SECRET_ACCESS_KEY": minio.secret_key},
    }
    kube.apply(secret)


def _helm_install(kube: Kube, release_namespace: str, chart: str, values: Mapping[str, Any]) -> None:
    # A cluster has only one copy of each CRD, and another installation may have created it: take it over.
    options = ("--namespace", release_namespace, "--take-ownership", "--wait", "--timeout", "3m", "--history-max", "3")
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
