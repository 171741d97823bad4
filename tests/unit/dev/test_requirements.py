"""Missing requirements of the machine are reported with their remedies, and cluster processes are recognized."""

from __future__ import annotations

import os
import platform
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from dev import node, requirements
from dev.console import SetupError

Usage = namedtuple("Usage", "free")


@pytest.fixture(autouse=True)
def suitable_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYWORKFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAYWORKFLOW_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free=2**40))
    monkeypatch.setattr(requirements, "missing_packages", lambda: ["runc"])


def test_suitable_machine_passes() -> None:
    requirements.check()


@pytest.mark.parametrize(
    ("target", "name", "value", "text"),
    [
        pytest.param(os, "geteuid", lambda: 1000, "run as root", id="not root"),
        pytest.param(os, "access", lambda path, mode: False, "privileged container", id="control groups"),
        pytest.param(shutil, "which", lambda name: None if name == "go" else name, "install Go 1.26", id="go"),
        pytest.param(shutil, "which", lambda name: None if name == "apt-get" else name, "install runc", id="apt-get"),
        pytest.param(shutil, "disk_usage", lambda path: Usage(free=2**30), "set RAYWORKFLOW_CACHE", id="disk of cache"),
        pytest.param(shutil, "disk_usage", lambda path: Usage(free=2**30), "set RAYWORKFLOW_STATE", id="disk of state"),
        pytest.param(platform, "system", lambda: "Darwin", "start Docker", id="not Linux"),
    ],
)
def test_missing_requirement_is_reported_with_remedy(
    monkeypatch: pytest.MonkeyPatch, target: Any, name: str, value: Any, text: str
) -> None:
    monkeypatch.setattr(target, name, value)
    with pytest.raises(SetupError, match=text):
        requirements.check()


@pytest.mark.parametrize(
    ("command", "is_server"),
    [
        pytest.param("/cache/bin/kubelet --config=/state/node/kubelet.yaml", True, id="kubelet"),
        pytest.param("/usr/bin/containerd-shim-runc-v2 -address /state/node/containerd.sock", True, id="shim"),
        pytest.param("/cache/bin/kubelet --config=/elsewhere/kubelet.yaml", False, id="another kubelet"),
        pytest.param("tail -f /state/node/kubelet.log", False, id="reader of the log"),
        pytest.param("kubectl --kubeconfig /state/control-plane/kubeconfig get pods", False, id="kubectl of a user"),
    ],
)
def test_server_without_pid_file_is_recognized(command: str, is_server: bool) -> None:
    assert node.is_server_of(Path("/state"), command.split()) is is_server
