"""The deletion of a namespace ends within 30 seconds, with the namespace controller of Kubernetes.

The operator runs as the chart's ServiceAccount. The order in which the controller deletes kinds of objects is not
defined, so one mode deletes the operator's Role first.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dev import binaries, paths
from dev.console import SetupError, run
from dev.control_plane import ControlPlane
from dev.processes import Daemon
from tests.operator.harness import Harness
from tests.operator.test_rights import Account
from tests.operator.test_rights import account as account
from tests.support.waiting import eventually
from workflow_operator.adapters.kube import CONFIGMAPS, NAMESPACES, SECRETS, WORKFLOWS
from workflow_operator.adapters.references import CLEANUP_LABELS
from workflow_operator.api.status import Phase

LIMIT = 30.0


@pytest.fixture(scope="module")
def namespace_controller(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The controller that deletes the objects of a deleted namespace."""
    daemon = Daemon("kube-controller-manager", tmp_path_factory.mktemp("controllers"))
    daemon.start(
        [
            binaries.ensure("kube-controller-manager"),
            f"--kubeconfig={plane.kubeconfig}",
            "--controllers=namespace-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ]
    )
    yield
    daemon.stop()


async def create_workflows(harness: Harness) -> None:
    """Create a running, a resumable and a finished Workflow, and one that waits for its code."""
    data = {"AWS_ACCESS_KEY_ID": "a2V5", "AWS_SECRET_ACCESS_KEY": "c2VjcmV0"}
    await harness.kube.create(SECRETS, harness.namespace, {"metadata": {"name": "store"}, "data": data})
    await harness.create("finished")
    harness.manager.allow_all()
    await harness.until_phase(Phase.SUCCEEDED, "finished")
    harness.manager.allow(1)
    await harness.create("resumable", recovery={"policy": "Manual"})
    await harness.until(lambda state: state.steps.succeeded == 1, "resumable")
    await harness.kill_head("resumable")
    await harness.until_phase(Phase.RESUMABLE, "resumable")
    await harness.create("running", checkpoints={"retention": "Delete"})
    await harness.until(lambda state: state.steps.succeeded == 1, "running")
    await harness.create("pending", code={"configMap": {"name": "missing"}})
    await harness.until_phase(Phase.PENDING, "pending")


def break_store(harness: Harness) -> None:
    """Replace the folder of the store by a file, so that nothing can be read or written there."""
    folder = Path(harness.settings.storage_uri.removeprefix("file://"))
    folder.rename(folder.with_name("moved"))
    folder.write_text("not a folder")


async def until_namespace_is_gone(harness: Harness) -> float:
    began = time.monotonic()

    async def gone() -> bool:
        found = await harness.kube.get(NAMESPACES, "", harness.namespace)
        left = await harness.kube.list(WORKFLOWS, harness.namespace, {}) if found else []
        described = [(each["metadata"]["name"], each["metadata"].get("finalizers")) for each in left]
        assert found is None, (json.dumps(found["status"]), described)
        return True

    await eventually(gone, LIMIT)
    return time.monotonic() - began


@pytest.mark.parametrize(("rights", "store"), [("all rights", "store up"), ("Role deleted first", "store down")])
@pytest.mark.usefixtures("namespace_controller")
async def test_namespace_is_deleted_within_30_seconds(
    harness: Harness, account: Account, rights: str, store: str
) -> None:
    async with harness.serving(
        operator_namespace=account.release_namespace,
        kubeconfig=str(account.kubeconfig),
        lease_name="rayworkflow",
        storage_secret="store",
    ) as operator:
        await create_workflows(harness)
        started = {name: (await harness.state(name)).attempt for name in ("running", "resumable")}
        assert started == {"running": 1, "resumable": 1}
        if store == "store down":
            break_store(harness)
        if rights == "Role deleted first":
            await asyncio.to_thread(
                account.plane.kubectl, "-n", harness.namespace, "delete", "roles,rolebindings", "--all"
            )
        await asyncio.to_thread(account.plane.kubectl, "delete", "namespace", harness.namespace, "--wait=false")
        print(f"{rights}, {store}: gone after {await until_namespace_is_gone(harness):.1f} s")
        assert not operator.done()
    assert await harness.kube.list(CONFIGMAPS, account.release_namespace, CLEANUP_LABELS) == []
    assert len(harness.manager.payloads) == 3, "no attempt was started in the namespace that was being deleted"


async def test_watches_of_other_namespaces_survive_a_missing_one(harness: Harness, account: Account) -> None:
    """The operator has no Role in the missing namespace, so its watches are refused there."""
    with pytest.raises(SetupError):
        account.plane.kubectl("get", "namespace", "never-created")
    harness.manager.allow_all()
    async with harness.serving(
        namespaces=(harness.namespace, "never-created"),
        operator_namespace=account.release_namespace,
        kubeconfig=str(account.kubeconfig),
        lease_name="rayworkflow",
    ) as operator:
        await harness.create("first")
        await harness.until_phase(Phase.SUCCEEDED, "first")
        await harness.create("second")
        await harness.until_phase(Phase.SUCCEEDED, "second")
        assert not operator.done()


def test_chart_leaves_out_a_namespace_that_is_being_deleted(plane: ControlPlane) -> None:
    """Helm would fail if it created a Role there. A namespace that does not exist is left out, too."""
    names = [f"chart-{name}" for name in ("served", "deleted", "release")]
    for name in names:
        plane.kubectl("create", "namespace", name)
    deleted = names[1]
    plane.kubectl("-n", deleted, "create", "configmap", "hold")
    hold = ("-n", deleted, "patch", "configmap", "hold", "--type=merge", "-p")
    plane.kubectl(*hold, '{"metadata":{"finalizers":["example.com/hold"]}}')
    plane.kubectl("delete", "namespace", deleted, "--wait=false")
    rendered = {flag: _roles(plane, flag, names[0], deleted, "chart-missing") for flag in ("true", "false")}
    plane.kubectl(*hold, '{"metadata":{"finalizers":null}}')
    assert rendered == {"true": {names[0]}, "false": {names[0], deleted, "chart-missing"}}


def _roles(plane: ControlPlane, skip: str, *watched: str) -> set[str]:
    """Return the namespaces for which the chart makes a Role, with access to the API server.

    Args:
        plane: the API server.
        skip: the value `namespaceDeletion.skipUnavailable`.
        watched: the value `watchNamespaces`.
    """
    values = f"watchNamespaces={{{','.join(watched)}}},namespaceDeletion.skipUnavailable={skip}"
    chart = paths.ROOT / "charts" / "rayworkflow"
    helm: list[str | Path] = [binaries.ensure("helm"), "--kubeconfig", plane.kubeconfig]
    helm += ["template", "x", chart, "--dry-run=server"]
    release = ["--kube-version", "1.34", "-n", "chart-release"]
    text = run([*helm, *release, "-s", "templates/rbac.yaml", "--set", values])
    found = [each for each in yaml.safe_load_all(text) if each]
    roles = {each["metadata"]["namespace"] for each in found if each["kind"] == "Role"}
    return roles - {"chart-release"}
