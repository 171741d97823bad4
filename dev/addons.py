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
from dev.console import stage

NAMESPACE: Final = "kuberay-system"
_DEPLOYMENT: Final = "deployment/kuberay-operator"
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


def kuberay_ready(kubectl: Kubectl, image: str) -> bool:
    """Whether the operator runs with just this image."""
    fields = "{.spec.template.spec.containers[0].image} {.status.readyReplicas}"
    words = ("get", _DEPLOYMENT, "--ignore-not-found", "-o", f"jsonpath={fields}")
    return kubectl("-n", NAMESPACE, *words).split() == [image, "1"]


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
