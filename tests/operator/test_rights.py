"""RBAC: the chart's roles are sufficient. The operator runs as the chart's ServiceAccount, and no request is denied.

tests/repo/test_charts.py checks that the roles grant no more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dev import binaries, paths
from dev.console import run
from dev.control_plane import ControlPlane
from tests.operator.harness import Harness
from workflow_operator.adapters.kube import SECRETS, connected
from workflow_operator.adapters.references import KubeReferences
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import DeferCleanup, RunRef, StoreRef
from workflow_operator.errors import RefusedError

DENIED = re.compile(r'^authorization_attempts_total\{result="no-opinion"\} (\d+)', re.MULTILINE)
"""The metric of denied requests. RBAC only allows or has no opinion, and without an opinion a request is denied."""


@dataclass(frozen=True)
class Account:
    """The ServiceAccount of an installed chart.

    Attributes:
        plane: the API server.
        release_namespace: the namespace of the Helm release.
        kubeconfig: file with the account's credentials.
    """

    plane: ControlPlane
    release_namespace: str
    kubeconfig: Path

    def denied(self) -> int:
        """Return how many requests of all clients the API server has denied."""
        found = DENIED.search(self.plane.kubectl("get", "--raw", "/metrics"))
        return int(found[1]) if found else 0


@pytest.fixture
def account(plane: ControlPlane, harness: Harness, tmp_path: Path) -> Iterator[Account]:
    """Install only the chart's account and roles, in a namespace other than the watched one."""
    release_namespace = f"{harness.namespace}-release"
    plane.kubectl("create", "namespace", release_namespace)
    values = ("--set", f"watchNamespaces={{{harness.namespace}}}", "--kube-version", "1.34")
    chart = paths.ROOT / "charts" / "rayworkflow"
    roles = run(
        [
            binaries.ensure("helm"),
            "template",
            "rayworkflow",
            chart,
            "-n",
            release_namespace,
            "-s",
            "templates/rbac.yaml",
            *values,
        ]
    )
    plane.kubectl("apply", "-f", "-", stdin=roles)
    token = plane.kubectl("-n", release_namespace, "create", "token", "rayworkflow").strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    kubeconfig = tmp_path / "account.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    yield Account(plane, release_namespace, kubeconfig)
    plane.kubectl("delete", "namespace", release_namespace, "--wait=false")


async def test_roles_allow_resume_cancel_and_deletion(harness: Harness, account: Account) -> None:
    before = account.denied()
    await harness.config_map(trip__py="def book(): ...\n")
    await harness.create(code={"configMap": {"name": "trip-code"}})
    await harness.create("waits", code={"configMap": {"name": "missing"}})
    harness.manager.allow(2)
    async with harness.serving(
        operator_namespace=account.release_namespace, kubeconfig=str(account.kubeconfig), lease_name="rayworkflow"
    ):
        await harness.until(lambda state: state.steps.succeeded == 2)
        await harness.kill_head()
        await harness.until(lambda state: state.resumes.total == 1)
        await harness.until_event("HeadPodLost")
        harness.manager.allow_all()
        await harness.until_phase(Phase.SUCCEEDED)
        await harness.change("waits", cancel=True)
        await harness.until_phase(Phase.CANCELED, "waits")
        for name in ("trip", "waits"):
            await harness.delete(name)
            await harness.until_gone(name)
        await harness.until_clusters()
    assert account.denied() == before


async def test_deferred_cleanups_are_recorded_and_removed(account: Account) -> None:
    store = StoreRef("file:///nowhere", "")
    cleanup = DeferCleanup("team", RunRef(store, "id", 1, "uuid", "uid", 1, "trip"), "cancel")
    async with connected(str(account.kubeconfig)) as kube:
        references = KubeReferences(kube, lambda files: (b"", ""), account.release_namespace)
        await references.defer_cleanup(cleanup)
        await references.defer_cleanup(cleanup)
        ((config_map, found),) = await references.deferred()
        assert found == cleanup
        await references.finish_cleanup(config_map)
        assert await references.deferred() == []


async def test_roles_deny_other_secrets(harness: Harness, account: Account) -> None:
    before = account.denied()
    async with connected(str(account.kubeconfig)) as kube:
        with pytest.raises(RefusedError, match="cannot list resource"):
            await kube.list(SECRETS, harness.namespace, {})
        with pytest.raises(RefusedError, match="cannot get resource"):
            await kube.get(SECRETS, "default", "anything")
    assert account.denied() == before + 2
