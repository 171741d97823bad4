"""IPv6: heads, probes and the API server are reached at [::1] over real sockets."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from workflow_operator.adapters.kuberay import head_view
from workflow_operator.adapters.ray_jobs import RayJobs
from workflow_operator.adapters.submissions import Sources, Submissions
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.actions import HeadRef
from workflow_operator.core.observation import JobState, SubmissionView
from workflow_operator.metrics import Metrics
from workflow_operator.probes import Probes, listening


async def _unused(*arguments: object) -> str:
    raise AssertionError(arguments)


async def test_head_with_an_ipv6_address_is_asked() -> None:
    async def job(request: web.Request) -> web.Response:
        return web.json_response({"submission_id": request.match_info["id"], "status": "RUNNING"})

    app = web.Application()
    app.router.add_get("/api/jobs/{id}", job)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "::1", 0).start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        sources = Sources(_unused, _unused, _unused, _unused)  # type: ignore[arg-type]
        submissions = Submissions(RayJobs(session), sources, f"http://{{ip}}:{port}")
        head = HeadRef("trip-1", HeadIdentity(pod_uid="pod", container_id="c"), "::1", "")
        assert await submissions.state("team", head, "rwf-1") == SubmissionView(JobState.RUNNING)
    await runner.cleanup()


@pytest.mark.parametrize(
    ("host", "reached"),
    [("", ("127.0.0.1", "[::1]")), ("0.0.0.0", ("127.0.0.1",)), ("::1", ("[::1]",))],
    ids=["default", "IPv4", "IPv6"],
)
async def test_probes_are_served_at_both_families(host: str, reached: tuple[str, ...]) -> None:
    async with Probes(host, 0, Metrics()) as probes, aiohttp.ClientSession() as session:
        for address in reached:
            async with session.get(f"http://{address}:{probes.port}/healthz") as response:
                assert await response.text() == "ok"


def test_probes_are_served_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    create = socket.create_server

    def without_ipv6(address: tuple[str, int], *, family: int = socket.AF_INET, **options: bool) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return create(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listening("", 0) as sock:
        assert sock.family == socket.AF_INET


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"podIP": "198.18.0.9"}, "198.18.0.9", id="IPv4"),
        pytest.param({"podIP": "fd00::9", "podIPs": [{"ip": "fd00::9"}]}, "fd00::9", id="IPv6"),
        pytest.param(
            {"podIP": "fd00::9", "podIPs": [{"ip": "fd00::9"}, {"ip": "198.18.0.9"}]}, "198.18.0.9", id="dual stack"
        ),
        pytest.param({"podIPs": []}, "", id="none yet"),
    ],
)
def test_head_listens_on_ipv4_if_it_has_such_an_address(status: dict[str, object], expected: str) -> None:
    meta = {"name": "head", "uid": "uid", "creationTimestamp": "2026-11-24T10:00:00Z"}
    pod = {"metadata": meta, "spec": {"containers": [{"name": "ray"}]}, "status": status}
    assert head_view(pod).ip == expected


def test_api_server_at_an_ipv6_address(tmp_path: Path) -> None:
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("text")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    loader: Any = cast("Any", InClusterConfigLoader)(
        str(tmp_path / "token"), str(tmp_path / "ca.crt"), environ=environment
    )
    loader._load_config()
    assert loader.host == "https://[fd00::1]:443"
