"""What the cluster holds once it runs: KubeRay, from the manifests of its own release.

Called by `dev.cluster`, after either path has brought a cluster up.
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
_ANSWERS_WITHIN_SECONDS: Final = 60.0
Kubectl = Callable[..., str]


def deploy_kuberay(kubectl: Kubectl, image: str) -> None:
    """Install KubeRay unless it is there and ready.

    Args:
        kubectl: runs kubectl with the words it is given and a `stdin`.
        image: the operator's image.
    """
    if kuberay_ready(kubectl, image):
        return
    with stage("deploy KubeRay"):
        manifests = _manifests(kubectl, image)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)
        kubectl("-n", NAMESPACE, "rollout", "status", _DEPLOYMENT, "--timeout=180s")
        if not poll(lambda: kuberay_ready(kubectl, image), _ANSWERS_WITHIN_SECONDS):
            raise SetupError(f"KubeRay does not answer; look at `kubectl -n {NAMESPACE} describe pods`")


def kuberay_ready(kubectl: Kubectl, image: str) -> bool:
    """Whether the operator is there with just this image, and answers: after a crash its status may be a memory."""
    field = "jsonpath={.spec.template.spec.containers[0].image}"
    if kubectl("-n", NAMESPACE, "get", _DEPLOYMENT, "--ignore-not-found", "-o", field) != image:
        return False
    return kuberay_answers(kubectl)


def kuberay_answers(kubectl: Kubectl) -> bool:
    """Whether the operator answers through its service."""
    try:
        return bool(kubectl("get", "--raw", _METRICS))
    except SetupError:
        return False


def _manifests(kubectl: Kubectl, image: str) -> str:
    """The release's own manifests, in a namespace of their own and with our image."""
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
