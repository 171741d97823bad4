"""Applies examples/trip in the namespace of the demo, counts the starts of its steps, and removes it again."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from dev import paths, release
from dev.console import SetupError
from dev.kube import Kube
from dev.processes import poll

NAMESPACE: Final = "rayworkflow-demo"
NAME: Final = "trip"
START_BUCKET: Final = "trip-starts"
_DELETION_TIMEOUT_SECONDS: Final = 90.0


def clean(kube: Kube, storage: release.Storage) -> None:
    """Delete the objects of an earlier demo, and create the Secret and the bucket that the demo needs.

    Args:
        kube: a cluster whose operator watches the namespace, because the operator deletes the objects it created.
        storage: the MinIO of the bucket in which the steps record their starts.

    Raises:
        SetupError: objects of an earlier demo were not deleted in time.
    """
    kube.kubectl("-n", NAMESPACE, "delete", "workflows", "--all", "--wait=false")
    if not poll(lambda: not kube.objects("workflows,rayclusters,pods", NAMESPACE), _DELETION_TIMEOUT_SECONDS):
        raise SetupError(
            f"cannot delete the objects of an earlier demo in namespace {NAMESPACE}: "
            f"they still exist after {_DELETION_TIMEOUT_SECONDS:.0f} s; "
            f"list them with `kubectl get workflows,rayclusters,pods -n {NAMESPACE}` "
            f"and read the log of the operator with `kubectl logs -n {release.NAMESPACE} deployment/{release.NAME}`"
        )
    release.make_bucket(storage, START_BUCKET)
    for entry in storage.client.list_objects(START_BUCKET, recursive=True):
        storage.client.remove_object(START_BUCKET, str(entry.object_name))
    release.make_secret(kube, NAMESPACE, storage)


def apply(kube: Kube, storage: release.Storage, image: str) -> None:
    """Run `kubectl apply -k` on the example, with the Ray image of this cluster and a bucket for the starts of steps.

    Args:
        kube: the cluster.
        storage: the MinIO of the bucket.
        image: the reference of the Ray image in this cluster.
    """
    name, _, tag = image.rpartition(":")
    variables = {"TRIP_STARTS": f"s3://{START_BUCKET}/{NAME}?endpoint={storage.cluster_endpoint}"}
    with tempfile.TemporaryDirectory() as scratch:
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [os.path.relpath(paths.ROOT / "examples" / "trip", Path(scratch).resolve())],
            "images": [{"name": "rayproject/ray", "newName": name, "newTag": tag}],
            "patches": [
                {
                    "target": {"kind": "Workflow"},
                    "patch": json.dumps([{"op": "add", "path": "/spec/runtimeEnv", "value": {"env_vars": variables}}]),
                }
            ],
        }
        (Path(scratch) / "kustomization.yaml").write_text(json.dumps(overlay))
        kube.kubectl("apply", "-k", scratch)


def start_counts(storage: release.Storage) -> dict[str, int]:
    """Return how often each step started, from the records that the steps wrote themselves."""
    found = storage.client.list_objects(START_BUCKET, prefix=f"{NAME}/", recursive=True)
    return dict(Counter(str(entry.object_name).split("/")[1] for entry in found))
