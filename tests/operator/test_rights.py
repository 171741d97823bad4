"""The chart's roles are enough: the operator lives whole lives as the chart's ServiceAccount, and is refused nothing.

That they are no more than that is read off the rendered roles, in tests/repo/test_charts.py.
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
"""RBAC never denies: it has no opinion, and then nobody has."""


@dataclass(frozen=True)
class Account:
    """The ServiceAccount of an installed chart.

    Attributes:
        plane: the API.
        home: the namespace of the release.
        kubeconfig: the account's credentials.
    """

    plane: ControlPlane
    home: str
    kubeconfig: Path

    def denied(self) -> int:
        """How many requests the API server has refused for want of rights, of anybody."""
        found = DENIED.search(self.plane.kubectl("get", "--raw", "/metrics"))
        return int(found[1]) if found else 0


@pytest.fixture
def account(plane: ControlPlane, harness: Harness, tmp_path: Path) -> Iterator[Account]:
    """The chart's account and roles, in a home beside the namespace that it serves, and nothing else of the chart."""
    home = f"{harness.namespace}-home"
    plane.kubectl("create", "namespace", home)
    served = ("--set", f"watchNamespaces={{{harness.namespace}}}", "--kube-version", "1.34")
    chart = paths.ROOT / "charts" / "rayworkflow"
    roles = run(
        [binaries.ensure("helm"), "template", "rayworkflow", chart, "-n", home, "-s", "templates/rbac.yaml", *served]
    )
    plane.kubectl("apply", "-f", "-", stdin=roles)
    token = plane.kubectl("-n", home, "create", "token", "rayworkflow").strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    kubeconfig = tmp_path / "account.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    yield Account(plane, home, kubeconfig)
    plane.kubectl("delete", "namespace", home, "--wait=false")


async def test_a_life_with_a_lost_head_a_cancel_and_deletions(harness: Harness, account: Account) -> None:
    before = account.denied()
    await harness.config_map(trip__py="def book(): ...\n")
    await harness.create(code={"configMap": {"name": "trip-code"}})
    await harness.create("waits", code={"configMap": {"name": "missing"}})
    harness.manager.allow(2)
    async with harness.serving(home=account.home, kubeconfig=str(account.kubeconfig), lease="rayworkflow"):
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


async def test_debts_are_noted_and_struck_out_at_home(account: Account) -> None:
    store = StoreRef("file:///nowhere", "")
    debt = DeferCleanup("team", RunRef(store, "id", 1, "uuid", "uid", 1, "trip"), "cancel")
    async with connected(str(account.kubeconfig)) as kube:
        references = KubeReferences(kube, lambda files: (b"", ""), account.home)
        await references.defer_cleanup(debt)
        await references.defer_cleanup(debt)
        ((noted, found),) = await references.deferred()
        assert found == debt
        await references.finish_cleanup(noted)
        assert await references.deferred() == []


async def test_what_is_not_its_business_is_refused(harness: Harness, account: Account) -> None:
    before = account.denied()
    async with connected(str(account.kubeconfig)) as kube:
        with pytest.raises(RefusedError, match="cannot list resource"):
            await kube.list(SECRETS, harness.namespace, {})
        with pytest.raises(RefusedError, match="cannot get resource"):
            await kube.get(SECRETS, "default", "anything")
    assert account.denied() == before + 2
