"""The charts: their values are checked, what they render is restricted, least, and what the operator understands."""

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

EVERYTHING = {
    "minio.enabled": "true",
    "minio.persistence.enabled": "true",
    "networkPolicy.enabled": "true",
    "metrics.serviceMonitor.enabled": "true",
    "watchNamespaces": "{team-a,team-b}",
    "replicas": "2",
}


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binaries.ensure("helm"), *words], capture_output=True, text=True, check=False)


def render(chart: str, values: dict[str, str] | None = None, release: str = "rayworkflow") -> Objects:
    settings = [word for key, value in (values or {}).items() for word in ("--set", f"{key}={value}")]
    done = helm("template", release, CHARTS / chart, "-n", NAMESPACE, "--kube-version", "1.34", *settings)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in objects}


def environment(objects: Objects) -> dict[str, str]:
    (deployment,) = (each for (kind, _, _), each in objects.items() if kind == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "from-the-pod") for each in container["env"]}


@pytest.mark.parametrize("chart", ["rayworkflow", "rayworkflow-crds"])
def test_lint(chart: str) -> None:
    done = helm("lint", "--strict", CHARTS / chart)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_packed_crds_are_the_generated_ones() -> None:
    generated = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    packed = {path.name: path.read_text() for path in (CHARTS / "rayworkflow-crds" / "files").glob("*.yaml")}
    assert packed == generated, "run `make crds`"


def test_the_crds_are_rendered_whole_and_kept_when_the_chart_goes() -> None:
    rendered = render("rayworkflow-crds")
    generated = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert [each["spec"] for each in rendered.values()] == [each["spec"] for each in generated]
    assert all(each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for each in rendered.values())


@pytest.mark.parametrize("release", ["rayworkflow", "other", "a" * 53], ids=["same", "other", "long"])
def test_names_fit_and_all_objects_carry_the_recommended_labels(release: str) -> None:
    for (_, _, name), each in render("rayworkflow", EVERYTHING, release).items():
        assert len(name) <= 63
        labels = each["metadata"]["labels"]
        assert {"name", "instance", "component", "version", "managed-by", "part-of"} == {
            key.removeprefix("app.kubernetes.io/") for key in labels if key.startswith("app.kubernetes.io/")
        }
        assert all(len(value) <= 63 for value in labels.values())


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_keep_the_restricted_standard(kind: str) -> None:
    (workload,) = (each for (found, _, _), each in render("rayworkflow", EVERYTHING).items() if found == kind)
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


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_operator_understands_every_variable_it_is_given(values: dict[str, str]) -> None:
    given = environment(render("rayworkflow", values))
    settings = read_settings(given, [])
    assert len(settings.model_fields_set) == len(given), "a variable that no setting reads"
    assert settings.storage_secret == "rayworkflow-storage"


@pytest.mark.parametrize(
    ("values", "uri", "endpoint"),
    [
        ({}, "", ""),
        ({"minio.enabled": "true"}, "s3://workflows", f"http://rayworkflow-minio.{NAMESPACE}.svc:9000"),
        ({"minio.enabled": "true", "storage.uri": "s3://mine"}, "s3://mine", ""),
        ({"storage.uri": "s3://mine/x", "storage.endpoint": "http://s3:9000"}, "s3://mine/x", "http://s3:9000"),
    ],
    ids=["none", "minio", "own-beside-minio", "own"],
)
def test_where_workflows_without_a_storage_keep_their_checkpoints(
    values: dict[str, str], uri: str, endpoint: str
) -> None:
    given = environment(render("rayworkflow", values))
    assert (given["RAYWORKFLOW_STORAGE_URI"], given["RAYWORKFLOW_STORAGE_ENDPOINT"]) == (uri, endpoint)


def rules(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of everything a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_a_namespaced_install_has_rights_in_its_namespaces_only() -> None:
    objects = render("rayworkflow", EVERYTHING)
    assert not [key for key in objects if key[0].startswith("Cluster")]
    bound = {key[1] for key in objects if key[0] == "RoleBinding"}
    assert bound == {NAMESPACE, "team-a", "team-b"}


def test_a_namespace_grants_what_the_cluster_would() -> None:
    cluster = render("rayworkflow")["ClusterRole", "", "rayworkflow"]
    namespace = render("rayworkflow", EVERYTHING)["Role", "team-a", "rayworkflow"]
    assert cluster["rules"] == namespace["rules"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["cluster", "namespaces"])
def test_rights_are_the_least(values: dict[str, str]) -> None:
    roles = [each for (kind, _, name), each in render("rayworkflow", values).items() if kind in ("Role", "ClusterRole")]
    served = [rules(role) for role in roles if not role["metadata"]["name"].endswith("-home")]
    assert served
    for allowed in served:
        assert {verb for _, resource, verb in allowed if resource == "secrets"} == {"get"}
        assert {verb for _, resource, verb in allowed if resource == "configmaps"} == {"get"}
        assert {verb for _, resource, verb in allowed if resource == "pods"} == {"list", "watch"}
        assert ("rayworkflow.dev", "workflows", "create") not in allowed
        assert not [each for each in allowed if "*" in each]


def test_two_replicas_share_one_lease_that_the_role_names() -> None:
    objects = render("rayworkflow", {"replicas": "2"}, "other")
    lease = environment(objects)["RAYWORKFLOW_LEASE"]
    home = objects["Role", NAMESPACE, "other-rayworkflow-home"]
    named = [rule["resourceNames"] for rule in home["rules"] if rule.get("resourceNames")]
    assert named == [[lease]]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("replicas", "two", "got string, want integer"),
        ("replica", "2", "additional properties 'replica' not allowed"),
        ("storage.uri", "http://minio", "does not match pattern"),
        ("logLevel", "loud", "value must be one of"),
        ("watchNamespaces", "{Team}", "does not match pattern"),
    ],
)
def test_wrong_values_are_refused_by_name(key: str, value: str, told: str) -> None:
    done = helm("template", "x", CHARTS / "rayworkflow", "--kube-version", "1.34", "--set", f"{key}={value}")
    assert done.returncode != 0
    assert told in done.stderr
    assert key.partition(".")[0] in done.stderr
