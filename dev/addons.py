"""Installs KubeRay into the cluster, from the manifests of its own release.

`dev.cluster` calls this module after it started the cluster, with and without Docker.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dev import binaries
from dev.console import SetupError, stage
from dev.processes import poll

NAMESPACE: Final = "kuberay-system"
_DEPLOYMENT: Final = "deployment/kuberay-operator"
_METRICS: Final = f"/api/v1/namespaces/{NAMESPACE}/services/kuberay-operator:8080/proxy/metrics"
_READY_TIMEOUT_SECONDS: Final = 60.0
Kubectl = Callable[..., str]


def deploy_kuberay(kubectl: Kubectl, image: str) -> None:
    """Install KubeRay, unless it is installed with this image and responds.

    Args:
        kubectl: runs kubectl with the given arguments and an optional `stdin`.
        image: the image of the KubeRay operator.

    Raises:
        SetupError: KubeRay did not become ready in time.
    """
    if kuberay_ready(kubectl, image):
        return
    with stage("deploy KubeRay"):
        manifests = _manifests(kubectl, image)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)
        kubectl("-n", NAMESPACE, "rollout", "status", _DEPLOYMENT, "--timeout=180s")
        if not poll(lambda: kuberay_ready(kubectl, image), _READY_TIMEOUT_SECONDS):
            raise SetupError(
                f"cannot deploy KubeRay: its metrics service did not respond within {_READY_TIMEOUT_SECONDS:.0f} s; "
                f"run `kubectl -n {NAMESPACE} describe pods` to see why"
            )


def kuberay_ready(kubectl: Kubectl, image: str) -> bool:
    """Return whether KubeRay is installed with this image and responds.

    The status of the Deployment is not enough: after a crash of the cluster it can be out of date.
    """
    field = "jsonpath={.spec.template.spec.containers[0].image}"
    if kubectl("-n", NAMESPACE, "get", _DEPLOYMENT, "--ignore-not-found", "-o", field) != image:
        return False
    return kuberay_responds(kubectl)


def kuberay_responds(kubectl: Kubectl) -> bool:
    """Return whether KubeRay responds through its service."""
    try:
        return bool(kubectl("get", "--raw", _METRICS))
    except SetupError:
        return False


def _manifests(kubectl: Kubectl, image: str) -> str:
    """Return the manifests of the KubeRay release, with `NAMESPACE` as the namespace and this image."""
    release = binaries.asset("kuberay-operator", "config") / "default"
    name, _, tag = image.rpartition(":")
    with tempfile.TemporaryDirectory() as scratch:
        overlay = f"""apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {NAMESPACE}
resources: [namespace.yaml, {os.path.relpath(release, Path(scratch).resolve())}]
images:
- name: quay.io/kuberay/operator
  newName: {name}
  newTag: {tag}
"""
        (Path(scratch) / "kustomization.yaml").write_text(overlay)
        namespace = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"
        (Path(scratch) / "namespace.yaml").write_text(namespace)
        return kubectl("kustomize", scratch)
