"""Invalid or missing input: it is refused at `kubectl apply`, or a condition explains what to change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.operator.harness import TEMPLATE, Harness
from tests.support.waiting import eventually
from workflow_operator.adapters.kube import EVENTS, RAYCLUSTERS, SECRETS, Object
from workflow_operator.api.status import Phase
from workflow_operator.errors import RefusedError

FROM_CONFIG_MAP = {"configMap": {"name": "trip-code"}}


def template(change: dict[str, Any], image: str = "rayproject/ray:2.60.0") -> dict[str, Any]:
    """Return the cluster template with some fields of its spec changed."""
    changed = copy.deepcopy(TEMPLATE)
    changed["spec"].update(change)
    changed["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = image
    return {"template": changed}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"entrypoint": "trip"}, "spec.entrypoint", id="no attribute"),
        pytest.param({"entrypoint": "workflow:run"}, "reserved for the library", id="the library's own module"),
        pytest.param({"cluster": {}}, "exactly one", id="no cluster"),
        pytest.param(
            {"cluster": {"template": TEMPLATE, "selector": {"matchLabels": {"a": "b"}}}},
            "exactly one",
            id="two clusters",
        ),
        pytest.param({"storage": {"uri": "/tmp/x"}}, "spec.storage.uri", id="a folder as storage"),
        pytest.param({"recovery": {"maxResumes": -1}}, "spec.recovery.maxResumes", id="negative resumes"),
    ],
)
async def test_api_server_refuses_an_invalid_spec(harness: Harness, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        await harness.create(**spec)


async def test_condition_refuses_a_working_dir(harness: Harness) -> None:
    await harness.create(runtimeEnv={"working_dir": "."})
    async with harness.reconciling():
        state = await harness.until_message("Accepted", "spec.runtimeEnv: remove working_dir")
    assert state.attempt == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param("workflow__py", "'workflow.py' would hide the module 'workflow'", id="workflow.py"),
        pytest.param("ray__py", "'ray.py' would hide the module 'ray'", id="ray.py"),
    ],
)
async def test_condition_names_code_that_hides_the_library(harness: Harness, file: str, message: str) -> None:
    await harness.config_map(**{file: "x = 1\n"})
    await harness.create(code=FROM_CONFIG_MAP)
    async with harness.reconciling():
        await harness.until_message("Reconciling", message)
    assert await harness.clusters() == []


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        pytest.param({"template": {"spec": {}}}, "headGroupSpec is missing", id="no head"),
        pytest.param(template({"rayVersion": ""}, image="mine:latest"), "rayVersion", id="unknown Ray version"),
        pytest.param(template({"rayVersion": "2.47.0"}), "2.52 or newer", id="Ray too old for tokens"),
        pytest.param(template({"enableInTreeAutoscaling": "maybe"}), "enableInTreeAutoscaling", id="wrong type"),
    ],
)
async def test_condition_names_an_invalid_template(harness: Harness, cluster: dict[str, Any], message: str) -> None:
    await harness.create(cluster=cluster)
    async with harness.reconciling():
        await harness.until(lambda state: any(message in condition.message for condition in state.conditions))
    assert await harness.clusters() == []


async def test_workflow_waits_for_a_missing_secret(harness: Harness) -> None:
    await harness.create(storage={"uri": "s3://bucket/prefix", "secretRef": {"name": "minio"}})
    async with harness.reconciling():
        await harness.until_message("Reconciling", "Secret minio does not exist")
        await harness.kube.create(SECRETS, harness.namespace, {"metadata": {"name": "minio"}})
        await harness.until_message("Reconciling", "AWS_ACCESS_KEY_ID")
    assert await harness.clusters() == []


async def only_cluster(harness: Harness) -> Object:
    """Wait for the RayCluster, and return it."""

    async def first_cluster() -> Object | None:
        found = await harness.kube.list(RAYCLUSTERS, harness.namespace, {})
        return found[0] if found else None

    return await eventually(first_cluster)


async def create_with_pending_head(harness: Harness, **status: object) -> None:
    """Create a Workflow whose head pod does not start."""
    harness.kuberay.paused = True
    await harness.create()
    await harness.until(lambda state: state.cluster is not None)
    await harness.kuberay.start_pod(await only_cluster(harness), phase="Pending", podIP="", **status)


async def test_condition_names_an_image_that_cannot_be_pulled(harness: Harness) -> None:
    waiting = {
        "name": "ray-head",
        "image": "nowhere/ray:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image nowhere/ray:1"}},
    }
    async with harness.reconciling():
        await create_with_pending_head(harness, containerStatuses=[waiting])
        state = await harness.until_message("ClusterReady", "nowhere/ray:1")
    condition = state.condition("ClusterReady")
    assert condition is not None
    assert condition.reason == "ImagePullBackOff"


async def test_condition_names_an_unschedulable_pod(harness: Harness) -> None:
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    async with harness.reconciling():
        await create_with_pending_head(harness, containerStatuses=[], conditions=[unscheduled])
        await harness.until_message("ClusterReady", "Insufficient cpu")


async def test_condition_shows_a_warning_of_kuberay(harness: Harness) -> None:
    harness.kuberay.paused = True
    await harness.create()
    async with harness.reconciling():
        meta = (await only_cluster(harness))["metadata"]
        event = {
            "metadata": {"name": "refused"},
            "involvedObject": {
                "apiVersion": "ray.io/v1",
                "kind": "RayCluster",
                "namespace": harness.namespace,
                "name": meta["name"],
                "uid": meta["uid"],
            },
            "type": "Warning",
            "reason": "InvalidRayClusterSpec",
            "message": "headGroupSpec should have at least one container",
        }
        await harness.kube.create(EVENTS, harness.namespace, event)
        await harness.until_message("ClusterReady", "headGroupSpec should have at least one container")


async def test_entrypoint_that_cannot_be_loaded_fails_the_workflow(harness: Harness) -> None:
    await harness.create(entrypoint="missing:book")
    async with harness.reconciling():
        state = await harness.until_phase(Phase.FAILED)
        await harness.until_clusters()
    condition = state.condition("Failed")
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "EntrypointInvalid")
    assert "there is no module 'missing'" in condition.message


async def test_no_secret_is_in_status_events_or_logs(harness: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    await harness.create(runtimeEnv={"env_vars": {"PASSWORD": "hidden-by-the-user"}})
    harness.manager.allow(1)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 1)
        harness.ray.lose.update({("GET", "/api/jobs/"): 3})
        await harness.kill_head()
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
    events = await harness.kube.list(EVENTS, harness.namespace, {})
    visible = state.model_dump_json() + str(events) + "".join(capsys.readouterr())
    assert harness.ray.token not in visible
    assert "hidden-by-the-user" not in visible
