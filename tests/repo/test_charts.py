"""The charts: validated values, restricted pods, least privilege, and settings that the operator accepts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import binaries
from workflow_operator.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
NAMESPACE = "rayworkflow-system"
Objects = dict[tuple[str, str, str], dict[str, Any]]

ALL_OPTIONS = {
    "minio.enabled": "true",
    "minio.persistence.enabled": "true",
    "networkPolicy.enabled": "true",
    "metrics.serviceMonitor.enabled": "true",
    "watchNamespaces": "{team-a,team-b}",
    "replicas": "2",
}


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binaries.ensure("helm"), *arguments], capture_output=True, text=True, check=False)


def render(chart: str, values: dict[str, str] | None = None, release: str = "rayworkflow") -> Objects:
    options = [option for key, value in (values or {}).items() for option in ("--set", f"{key}={value}")]
    result = helm("template", release, CHARTS / chart, "-n", NAMESPACE, "--kube-version", "1.34", *options)
    assert result.returncode == 0, result.stderr
    objects = [each for each in yaml.safe_load_all(result.stdout) if each]
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in objects}


def environment(objects: Objects) -> dict[str, str]:
    (deployment,) = (each for (kind, _, _), each in objects.items() if kind == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "from-the-pod") for each in container["env"]}


@pytest.mark.parametrize("chart", ["rayworkflow", "rayworkflow-crds"])
def test_chart_passes_helm_lint(chart: str) -> None:
    result = helm("lint", "--strict", CHARTS / chart)
    assert result.returncode == 0, result.stdout + result.stderr


def test_chart_contains_the_generated_crds() -> None:
    generated = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    chart_files = {path.name: path.read_text() for path in (CHARTS / "rayworkflow-crds" / "files").glob("*.yaml")}
    assert chart_files == generated, "run `make crds`"


def test_crds_are_complete_and_kept_on_uninstall() -> None:
    rendered = {key: each for key, each in render("rayworkflow-crds").items() if key[0] == "CustomResourceDefinition"}
    generated = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert [each["spec"] for each in rendered.values()] == [each["spec"] for each in generated]
    assert all(each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for each in rendered.values())


def pod_templates(objects: Objects) -> list[dict[str, Any]]:
    """Return the pod template of every workload, also of kinds that are added later."""
    return [each["spec"]["template"]["spec"] for each in objects.values() if "template" in each.get("spec", {})]


def test_every_pod_gets_the_pull_secrets() -> None:
    pods = pod_templates(render("rayworkflow", {**ALL_OPTIONS, "imagePullSecrets[0].name": "registry"}))
    assert len(pods) >= 2
    assert all(pod["imagePullSecrets"] == [{"name": "registry"}] for pod in pods)


def test_every_container_has_requests_and_limits() -> None:
    for pod in pod_templates(render("rayworkflow", ALL_OPTIONS)):
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][kind]), container["name"]


@pytest.mark.parametrize("release", ["rayworkflow", "other", "a" * 53], ids=["chart name", "other name", "long name"])
def test_objects_have_valid_names_and_recommended_labels(release: str) -> None:
    for (_, _, name), each in render("rayworkflow", ALL_OPTIONS, release).items():
        assert len(name) <= 63
        labels = each["metadata"]["labels"]
        assert {"name", "instance", "component", "version", "managed-by", "part-of"} == {
            key.removeprefix("app.kubernetes.io/") for key in labels if key.startswith("app.kubernetes.io/")
        }
        assert all(len(value) <= 63 for value in labels.values())


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_meet_the_restricted_standard(kind: str) -> None:
    (workload,) = (each for (found, _, _), each in render("rayworkflow", ALL_OPTIONS).items() if found == kind)
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert container["livenessProbe"]
        assert container["readinessProbe"]


@pytest.mark.parametrize("values", [{}, ALL_OPTIONS], ids=["defaults", "all options"])
def test_operator_accepts_all_variables_of_the_chart(values: dict[str, str]) -> None:
    variables = environment(render("rayworkflow", values))
    settings = read_settings(variables, [])
    assert len(settings.model_fields_set) == len(variables), "no setting reads one of the variables"
    assert settings.storage_secret == "rayworkflow-storage"


@pytest.mark.parametrize(
    ("values", "uri", "endpoint"),
    [
        ({}, "", ""),
        ({"minio.enabled": "true"}, "s3://workflows", f"http://rayworkflow-minio.{NAMESPACE}.svc:9000"),
        ({"minio.enabled": "true", "storage.uri": "s3://mine"}, "s3://mine", ""),
        ({"storage.uri": "s3://mine/x", "storage.endpoint": "http://s3:9000"}, "s3://mine/x", "http://s3:9000"),
    ],
    ids=["none", "minio", "own bucket and minio", "own endpoint"],
)
def test_default_storage(values: dict[str, str], uri: str, endpoint: str) -> None:
    variables = environment(render("rayworkflow", values))
    assert (variables["RAYWORKFLOW_STORAGE_URI"], variables["RAYWORKFLOW_STORAGE_ENDPOINT"]) == (uri, endpoint)


def rules(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return the (group, resource, verb) of every right of a role."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_namespaced_install_can_have_no_cluster_wide_rights() -> None:
    objects = render("rayworkflow", {**ALL_OPTIONS, "namespaceDeletion.clusterRole": "false"})
    assert not [key for key in objects if key[0].startswith("Cluster")]
    bound = {key[1] for key in objects if key[0] == "RoleBinding"}
    assert bound == {NAMESPACE, "team-a", "team-b"}


def test_finalizers_can_be_removed_without_the_roles() -> None:
    """The deletion of a namespace may delete the Role before the Workflows."""
    objects = render("rayworkflow", ALL_OPTIONS)
    assert [key for key in objects if key[0].startswith("Cluster")] == [
        ("ClusterRole", "", "rayworkflow-finalizer"),
        ("ClusterRoleBinding", "", "rayworkflow-finalizer"),
    ]
    workflows = {("rayworkflow.dev", "workflows", verb) for verb in ("get", "list", "watch", "patch")}
    others = {("rayworkflow.dev", "workflows/status", "patch"), ("", "namespaces", "get")}
    assert rules(objects["ClusterRole", "", "rayworkflow-finalizer"]) == workflows | others
    assert not [key for key in render("rayworkflow") if key[2].endswith("-finalizer")]


def test_role_and_cluster_role_have_the_same_rules() -> None:
    cluster = render("rayworkflow")["ClusterRole", "", "rayworkflow"]
    namespace = render("rayworkflow", ALL_OPTIONS)["Role", "team-a", "rayworkflow"]
    assert cluster["rules"] == namespace["rules"]


@pytest.mark.parametrize("values", [{}, ALL_OPTIONS], ids=["cluster", "namespaces"])
def test_roles_grant_least_privilege(values: dict[str, str]) -> None:
    roles = [each for (kind, _, name), each in render("rayworkflow", values).items() if kind in ("Role", "ClusterRole")]
    served = [rules(role) for role in roles if not role["metadata"]["name"].endswith(("-operator", "-finalizer"))]
    assert served
    for allowed in served:
        assert {verb for _, resource, verb in allowed if resource == "secrets"} == {"get"}
        assert {verb for _, resource, verb in allowed if resource == "configmaps"} == {"get"}
        assert {verb for _, resource, verb in allowed if resource == "pods"} == {"list", "watch"}
        assert ("rayworkflow.dev", "workflows", "create") not in allowed
        assert not [each for each in allowed if "*" in each]


def test_role_for_installing_covers_the_role_of_a_namespace() -> None:
    """A namespace's administrator can grant only rights that `rayworkflow-install` or the role `admin` contains."""
    install = rules(render("rayworkflow-crds")["ClusterRole", "", "rayworkflow-install"])
    granted = rules(render("rayworkflow", ALL_OPTIONS)["Role", "team-a", "rayworkflow"])
    custom = {each for each in granted if each[0] in ("rayworkflow.dev", "ray.io")}
    assert custom == install


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({"minio.enabled": "true"}, {9000}),
        ({"storage.uri": "s3://mine"}, {443}),
        ({"storage.uri": "s3://mine", "storage.endpoint": "http://s3"}, {80}),
        ({"storage.uri": "s3://mine", "storage.endpoint": "http://[fd00::1]:9001"}, {9001}),
        ({"minio.enabled": "true", "networkPolicy.storagePorts": "{9000,9443}"}, {9000, 9443}),
    ],
    ids=["minio", "aws", "default port", "IPv6", "listed"],
)
def test_network_policy_opens_what_the_operator_needs(values: dict[str, str], ports: set[int]) -> None:
    objects = render("rayworkflow", {**values, "networkPolicy.enabled": "true"})
    policy = objects["NetworkPolicy", NAMESPACE, "rayworkflow"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    opened = [({port["port"] for port in rule["ports"]}, rule.get("to")) for rule in policy["egress"]]
    heads = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"ray.io/node-type": "head"}}}]
    assert opened == [({53}, None), ({443, 6443}, None), (ports, None), ({8265}, heads)]


def test_role_names_the_lease_of_all_replicas() -> None:
    objects = render("rayworkflow", {"replicas": "2"}, "other")
    lease = environment(objects)["RAYWORKFLOW_LEASE_NAME"]
    role = objects["Role", NAMESPACE, "other-rayworkflow-operator"]
    named = [rule["resourceNames"] for rule in role["rules"] if rule.get("resourceNames")]
    assert named == [[lease]]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("replicas", "two", "got string, want integer"),
        ("replica", "2", "additional properties 'replica' not allowed"),
        ("storage.uri", "http://minio", "does not match pattern"),
        ("logLevel", "loud", "value must be one of"),
        ("watchNamespaces", "{Team}", "does not match pattern"),
    ],
)
def test_invalid_value_is_refused_by_name(key: str, value: str, message: str) -> None:
    result = helm("template", "x", CHARTS / "rayworkflow", "--kube-version", "1.34", "--set", f"{key}={value}")
    assert result.returncode != 0
    assert message in result.stderr
    assert key.partition(".")[0] in result.stderr
