"""Restricted clusters: a namespace administrator installs, and Pod Security and quotas admit all pods.

The API server itself checks rights, Pod Security, LimitRanges and quotas. Each pod is created as a dry run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import yaml

from dev import binaries, paths
from dev.console import SetupError, run
from dev.control_plane import ControlPlane
from workflow_operator.api.spec import Auth, ClusterTemplate
from workflow_operator.core.cluster_manifest import ClusterRequest, build

NUMBERS = count(1)
QUOTA = {"requests.cpu": "100", "requests.memory": "1Ti", "limits.cpu": "100", "limits.memory": "1Ti", "pods": "100"}
"""A quota that refuses each pod without requests and limits."""


@pytest.fixture
def restricted(plane: ControlPlane) -> Iterator[str]:
    """Create a namespace with the strictest Pod Security, and with a quota that makes requests and limits mandatory."""
    name = f"restricted-{next(NUMBERS)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all", "namespace": name}}
    apply(plane, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    apply(plane, {**quota, "spec": {"hard": QUOTA}})
    used = dict.fromkeys(QUOTA, "0")  # a controller would write this
    status = json.dumps({"status": {"hard": QUOTA, "used": used}})
    plane.kubectl("-n", name, "patch", "resourcequota", "all", "--subresource=status", "--type=merge", "-p", status)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


def apply(plane: ControlPlane, *objects: dict[str, Any], options: tuple[str, ...] = ()) -> None:
    plane.kubectl("apply", *options, "-f", "-", stdin=yaml.safe_dump_all(objects))


def chart(namespace: str, *values: str, name: str = "rayworkflow") -> list[dict[str, Any]]:
    """Return the objects of a chart as Helm renders them for a release in a namespace."""
    options = [option for value in values for option in ("--set", value)]
    command = [str(binaries.ensure("helm")), "template", name, str(paths.ROOT / "charts" / name), "-n", namespace]
    return [each for each in yaml.safe_load_all(run([*command, "--kube-version", "1.34", *options])) if each]


def create_pod(plane: ControlPlane, namespace: str, spec: dict[str, Any], name: str = "pod") -> None:
    """Ask the API server to admit a pod."""
    meta = {"name": name, "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


def sample_head(path: str) -> dict[str, Any]:
    """Return the head pod of a sample as the operator passes it to KubeRay."""
    workflow = yaml.safe_load((paths.ROOT / path).read_text())
    template = ClusterTemplate.model_validate(workflow["spec"]["cluster"]["template"])
    request = ClusterRequest("trip", "team", "uid-1", {}, 1, "rayworkflow-storage", Auth.TOKEN)
    manifest = build(template, request)
    assert isinstance(manifest, dict), manifest
    return dict(manifest["spec"]["headGroupSpec"]["template"]["spec"])


def test_pods_of_the_chart_are_admitted(plane: ControlPlane, restricted: str) -> None:
    workloads = [each for each in chart(restricted, "minio.enabled=true") if "template" in each.get("spec", {})]
    assert {each["kind"] for each in workloads} >= {"Deployment", "StatefulSet"}
    for workload in workloads:
        create_pod(plane, restricted, workload["spec"]["template"]["spec"])


def test_head_of_the_sample_is_admitted(plane: ControlPlane, restricted: str) -> None:
    create_pod(plane, restricted, sample_head("examples/trip/workflow.yaml"))


@pytest.mark.parametrize(
    ("field", "message"), [("securityContext", "violates PodSecurity"), ("resources", "must specify limits.cpu")]
)
def test_namespace_of_these_tests_is_restricted(plane: ControlPlane, restricted: str, field: str, message: str) -> None:
    spec = sample_head("examples/trip/workflow.yaml")
    spec["containers"][0].pop(field)
    with pytest.raises(SetupError, match=message):
        create_pod(plane, restricted, spec)


def bind(plane: ControlPlane, namespace: str, user: str, *roles: str) -> None:
    """Bind ClusterRoles to a user in a namespace only."""
    for role in roles:
        binding = role.replace(":", "-")
        plane.kubectl("-n", namespace, "create", "rolebinding", binding, f"--clusterrole={role}", f"--user={user}")


ADMIN = ("system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view")
"""The parts of the role `admin`. A controller would put them together."""


def test_namespace_admin_installs_without_any_cluster_right(plane: ControlPlane, restricted: str) -> None:
    apply(plane, *(each for each in chart(restricted, name="rayworkflow-crds") if each["kind"] == "ClusterRole"))
    values = (
        f"watchNamespaces={{{restricted}}}",
        "minio.enabled=true",
        "networkPolicy.enabled=true",
        "namespaceDeletion.clusterRole=false",
    )
    objects = chart(restricted, *values)
    assert not [each["kind"] for each in objects if each["kind"].startswith("Cluster")]
    bind(plane, restricted, "ann", *ADMIN)
    with pytest.raises(SetupError, match="attempting to grant RBAC permissions not currently held"):
        apply(plane, *objects, options=("--as=ann",))
    bind(plane, restricted, "ann", "rayworkflow-install")
    apply(plane, *objects, options=("--as=ann",))
    with pytest.raises(SetupError, match="forbidden"):
        plane.kubectl("get", "workflows", "--all-namespaces", "--as=ann")
