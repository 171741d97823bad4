"""The whole operator while its surroundings are wrong: a lost lease, an older CRD, another installation."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from dev import processes
from dev.control_plane import ControlPlane
from tests.operator.harness import Harness
from tests.support.relay import Relay
from tests.support.waiting import eventually
from workflow_operator import resources
from workflow_operator.adapters.kube import LEASES
from workflow_operator.api.crds import workflow_crd
from workflow_operator.api.status import Phase
from workflow_operator.claims import CLAIM_NAME


async def until_answer(port: int, path: str, text: str) -> str:
    """Wait until the operator's answer at a path contains a text, and return the answer."""

    def fetch() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"
        except OSError as error:
            return f"no answer: {error}"

    async def check() -> str:
        found = await asyncio.to_thread(fetch)
        assert text in found, found
        return found

    return await eventually(check)


async def test_lost_lease_stops_the_work_and_not_the_process(
    harness: Harness, plane: ControlPlane, tmp_path: Path, free_port: int
) -> None:
    config = yaml.safe_load(plane.kubeconfig.read_text())
    api_port = urlsplit(plane.url).port
    assert api_port is not None
    relay = Relay(api_port)
    async with relay.running("127.0.0.1"):
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
        kubeconfig = tmp_path / "relay.kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        await harness.create()
        harness.manager.allow(1)
        async with harness.serving(kubeconfig=str(kubeconfig), lease_seconds=3, port=free_port) as serving:
            await harness.until(lambda state: state.steps.succeeded == 1)
            relay.freeze()
            answer = await until_answer(free_port, "/metrics", "rayworkflow_leader 0.0")
            assert 'phase="Running"} 1.0' not in answer
            relay.thaw()
            await until_answer(free_port, "/metrics", "rayworkflow_leader 1.0")
            harness.manager.allow_all()
            state = await harness.until_phase(Phase.SUCCEEDED)
            assert not serving.done()
    assert (state.attempt, state.epoch) == (1, 1)


async def test_second_installation_does_not_act(harness: Harness, free_port: int) -> None:
    other = {
        "holderIdentity": "elsewhere/rayworkflow",
        "leaseDurationSeconds": 120,
        "renewTime": "2026-11-24T10:00:00.000000Z",
    }
    await harness.kube.create(LEASES, harness.namespace, {"metadata": {"name": CLAIM_NAME}, "spec": other})
    created = await harness.create()
    async with harness.serving(port=free_port):
        text = f"namespace {harness.namespace} is served by installation elsewhere/rayworkflow"
        await until_answer(free_port, "/readyz", text)
        await until_answer(free_port, "/metrics", "rayworkflow_foreign_namespaces 1.0")
        workflow = await harness.workflow()
        assert workflow is not None
        assert workflow.resource_version == created.resource_version
    claim = await harness.kube.get(LEASES, harness.namespace, CLAIM_NAME)
    assert claim is not None
    assert claim["spec"]["holderIdentity"] == "elsewhere/rayworkflow"


@pytest.fixture
def older_crd(plane: ControlPlane) -> Iterator[None]:
    """Serve a CRD without the field `status.epoch` while the test runs."""
    crd = workflow_crd()
    (version,) = crd["spec"]["versions"]
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    older = yaml.safe_load(yaml.safe_dump(crd))
    older["spec"]["versions"][0]["additionalPrinterColumns"] = version["additionalPrinterColumns"][:1]
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["epoch"]
    plane.kubectl(*apply, stdin=yaml.safe_dump(older))
    path = "/openapi/v3/apis/rayworkflow.dev/v1alpha1"
    assert processes.poll(lambda: '"epoch":' not in plane.kubectl("get", "--raw", path), 30)
    yield
    plane.kubectl(*apply, stdin=yaml.safe_dump(crd))


async def test_older_crd_is_reported_until_it_is_upgraded(
    harness: Harness, plane: ControlPlane, free_port: int, older_crd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CHECK_SECONDS", 0.2)
    harness.manager.allow_all()
    async with harness.serving(port=free_port) as serving:
        answer = await until_answer(free_port, "/readyz", "status.epoch is missing")
        assert answer.startswith("503 the CRD of Workflow is older than this operator")
        assert "helm upgrade rayworkflow-crds" in answer
        assert "kubectl apply --server-side --force-conflicts -f crds/" in answer
        crds = str(Path(__file__).parents[2] / "crds")
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", crds)
        await until_answer(free_port, "/readyz", "ready")
        assert not serving.done()
