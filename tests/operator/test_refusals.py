"""Bad input: each is refused or waited for in words that say what to change, at `kubectl apply` or in a condition."""

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
    """The template with some fields of its spec changed."""
    changed = copy.deepcopy(TEMPLATE)
    changed["spec"].update(change)
    changed["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = image
    return {"template": changed}


@pytest.mark.parametrize(
    ("spec", "says"),
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
async def test_refused_when_it_is_applied(harness: Harness, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        await harness.create(**spec)


async def test_a_working_dir_is_refused_in_a_condition(harness: Harness) -> None:
    await harness.create(runtimeEnv={"working_dir": "."})
    async with harness.rounds():
        state = await harness.until_message("Accepted", "spec.runtimeEnv: remove working_dir")
    assert state.attempt == 0


@pytest.mark.parametrize(
    ("file", "says"),
    [
        pytest.param("workflow__py", "'workflow.py' would hide the module 'workflow'", id="workflow.py"),
        pytest.param("ray__py", "'ray.py' would hide the module 'ray'", id="ray.py"),
    ],
)
async def test_code_that_hides_the_library_is_named(harness: Harness, file: str, says: str) -> None:
    await harness.config_map(**{file: "x = 1\n"})
    await harness.create(code=FROM_CONFIG_MAP)
    async with harness.rounds():
        await harness.until_message("Reconciling", says)
    assert await harness.clusters() == []


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        pytest.param({"template": {"spec": {}}}, "headGroupSpec is missing", id="no head"),
        pytest.param(template({"rayVersion": ""}, image="mine:latest"), "rayVersion", id="unknown Ray version"),
        pytest.param(template({"rayVersion": "2.47.0"}), "2.52 or newer", id="Ray too old for tokens"),
        pytest.param(template({"enableInTreeAutoscaling": "maybe"}), "enableInTreeAutoscaling", id="wrong type"),
    ],
)
async def test_a_template_that_cannot_work_is_named(harness: Harness, cluster: dict[str, Any], says: str) -> None:
    await harness.create(cluster=cluster)
    async with harness.rounds():
        await harness.until(lambda state: any(says in condition.message for condition in state.conditions))
    assert await harness.clusters() == []


async def test_a_missing_secret_is_waited_for_and_named(harness: Harness) -> None:
    await harness.create(storage={"uri": "s3://bucket/prefix", "secretRef": {"name": "minio"}})
    async with harness.rounds():
        await harness.until_message("Reconciling", "Secret minio does not exist")
        await harness.kube.create(SECRETS, harness.namespace, {"metadata": {"name": "minio"}})
        await harness.until_message("Reconciling", "AWS_ACCESS_KEY_ID")
    assert await harness.clusters() == []


async def only_cluster(harness: Harness) -> Object:
    """The RayCluster, once it was made."""

    async def look() -> Object | None:
        found = await harness.kube.list(RAYCLUSTERS, harness.namespace, {})
        return found[0] if found else None

    return await eventually(look)


async def head_in_trouble(harness: Harness, **status: object) -> None:
    """A cluster of which KubeRay has made a head pod that does not come up."""
    harness.kuberay.hold_all = True
    await harness.create()
    await harness.until(lambda state: state.cluster is not None)

    await harness.kuberay.start_pod(await only_cluster(harness), phase="Pending", podIP="", **status)


async def test_an_image_that_cannot_be_pulled_is_named(harness: Harness) -> None:
    waiting = {
        "name": "ray-head",
        "image": "nowhere/ray:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image nowhere/ray:1"}},
    }
    async with harness.rounds():
        await head_in_trouble(harness, containerStatuses=[waiting])
        state = await harness.until_message("ClusterReady", "nowhere/ray:1")
    condition = state.condition("ClusterReady")
    assert condition is not None
    assert condition.reason == "ImagePullBackOff"


async def test_a_pod_that_no_node_takes_is_named(harness: Harness) -> None:
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    async with harness.rounds():
        await head_in_trouble(harness, containerStatuses=[], conditions=[unscheduled])
        await harness.until_message("ClusterReady", "Insufficient cpu")


async def test_what_kuberay_refuses_is_taken_from_its_event(harness: Harness) -> None:
    harness.kuberay.hold_all = True
    await harness.create()
    async with harness.rounds():
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


async def test_an_entrypoint_that_cannot_be_loaded_fails_with_its_text(harness: Harness) -> None:
    await harness.create(entrypoint="missing:book")
    async with harness.rounds():
        state = await harness.until_phase(Phase.FAILED)
        await harness.until_clusters()
    condition = state.condition("Failed")
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "EntrypointInvalid")
    assert "there is no module 'missing'" in condition.message


async def test_no_secret_is_shown(harness: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    await harness.create(runtimeEnv={"env_vars": {"PASSWORD": "hidden-by-the-user"}})
    harness.manager.allow(1)
    async with harness.rounds():
        await harness.until(lambda state: state.steps.succeeded == 1)
        harness.ray.lose.update({("GET", "/api/jobs/"): 3})
        await harness.kill_head()
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
    events = await harness.kube.list(EVENTS, harness.namespace, {})
    shown = state.model_dump_json() + str(events) + "".join(capsys.readouterr())
    assert harness.ray.token not in shown
    assert "hidden-by-the-user" not in shown
