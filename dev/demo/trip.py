"""examples/trip in the demo's namespace: applied with this cluster's image, its marks counted, all of it removed."""

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
MARKS: Final = "trip-marks"
_GONE_WITHIN_SECONDS: Final = 90.0


def clean(kube: Kube, storage: release.Storage) -> None:
    """Remove what an earlier demo left; make the Secret, and the bucket for the marks.

    Args:
        kube: the cluster, with an operator that serves the namespace: it removes what it made.
        storage: where the marks go.
    """
    kube.kubectl("-n", NAMESPACE, "delete", "workflows", "--all", "--wait=false")
    if not poll(lambda: not kube.objects("workflows,rayclusters,pods", NAMESPACE), _GONE_WITHIN_SECONDS):
        raise SetupError(
            f"what an earlier demo left in {NAMESPACE} does not go; look at it with `kubectl get workflows,rayclusters,"
            f"pods -n {NAMESPACE}`, and at the operator with `kubectl logs -n {release.NAMESPACE} "
            f"deployment/{release.NAME}`"
        )
    release.make_bucket(storage, MARKS)
    for each in storage.client.list_objects(MARKS, recursive=True):
        storage.client.remove_object(MARKS, str(each.object_name))
    release.make_secret(kube, NAMESPACE, storage)


def apply(kube: Kube, storage: release.Storage, image: str) -> None:
    """`kubectl apply -k` of the example, with the cluster's own Ray image and a place for the steps' marks.

    Args:
        kube: the cluster.
        storage: where the marks go.
        image: the Ray image as this cluster knows it.
    """
    name, _, tag = image.rpartition(":")
    marks = {"TRIP_MARKS": f"s3://{MARKS}/{NAME}?endpoint={storage.inside}"}
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
                    "patch": json.dumps([{"op": "add", "path": "/spec/runtimeEnv", "value": {"env_vars": marks}}]),
                }
            ],
        }
        (Path(scratch) / "kustomization.yaml").write_text(json.dumps(overlay))
        kube.kubectl("apply", "-k", scratch)


def marks(storage: release.Storage) -> dict[str, int]:
    """How often each step started, as the steps themselves say."""
    found = storage.client.list_objects(MARKS, prefix=f"{NAME}/", recursive=True)
    return dict(Counter(str(each.object_name).split("/")[1] for each in found))
