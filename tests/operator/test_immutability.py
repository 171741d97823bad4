"""Changes of a spec after the start: the API server refuses those without an effect, and explains what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.console import SetupError
from dev.control_plane import ControlPlane
from tests.operator.harness import TEMPLATE, Harness
from workflow_operator.adapters.kube import WORKFLOWS
from workflow_operator.api.status import Phase
from workflow_operator.errors import RefusedError

CHANGES = [
    pytest.param({"entrypoint": "trip:other"}, "entrypoint cannot change once", id="entrypoint"),
    pytest.param({"args": {"dest": "SAN"}}, "args cannot change once", id="args"),
    pytest.param({"workflowId": "nightly"}, "workflowId cannot change once", id="workflowId"),
    pytest.param({"code": {"configMap": {"name": "other"}}}, "code cannot change once", id="code.configMap.name"),
    pytest.param({"storage": {"uri": "s3://other/x"}}, "storage cannot change once", id="storage"),
    pytest.param({"recovery": {"maxResumes": 6}}, "maxResumes cannot grow once", id="recovery.maxResumes"),
    pytest.param(
        {"recovery": {"maxDisruptions": 101}}, "maxDisruptions cannot grow once", id="recovery.maxDisruptions"
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
async def test_field_can_change_before_the_first_attempt(
    harness: Harness, change: dict[str, Any], message: str
) -> None:
    await harness.create()
    await harness.change(**change)


@pytest.mark.parametrize(("change", "message"), CHANGES)
async def test_field_cannot_change_after_the_first_attempt(
    harness: Harness, change: dict[str, Any], message: str
) -> None:
    await harness.create()
    await started(harness)
    with pytest.raises(RefusedError, match=message):
        await harness.change(**change)


async def test_cancel_cannot_be_reset(harness: Harness) -> None:
    await harness.create(cancel=True)
    with pytest.raises(RefusedError, match="cancel cannot be set back"):
        await harness.change(cancel=False)


async def test_retain_needs_a_template(harness: Harness) -> None:
    selector = {"selector": {"matchLabels": {"a": "b"}}}
    with pytest.raises(RefusedError, match="remove retain"):
        await harness.create(cluster={**selector, "retain": "OnFailure"})
    await harness.create(cluster={**selector, "retain": "Never"})


async def test_other_fields_can_change_after_the_first_attempt(harness: Harness) -> None:
    await harness.create(args=large_args())
    await started(harness)
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["rayVersion"] = "2.59.0"
    await harness.change(
        cluster={"template": template, "retain": "OnFailure", "retainSeconds": 60},
        runtimeEnv={"pip": ["numpy"]},
        recovery={"policy": "Manual", "maxResumes": 4, "backoff": {"initialSeconds": 1, "maxSeconds": 9}},
        failureDetection={"unreachableSeconds": 99},
        preRunningDeadlineSeconds=99,
        checkpoints={"retention": "Delete"},
        auth="Disabled",
        managerUnresponsiveSeconds=99,
        cancel=True,
    )


async def test_absent_args_equal_empty_args(harness: Harness) -> None:
    await harness.create()
    await started(harness)
    await harness.change(args=None)
    await harness.change(args={})


async def test_repeated_apply_after_the_start_changes_nothing(
    harness: Harness, plane: ControlPlane, tmp_path: Path
) -> None:
    file = manifest(tmp_path, harness.namespace, args={"origin": "OAK", "nested": {"list": [1, 2.5, None]}})
    apply = applying(plane, file)
    apply("--server-side", "--field-manager=gitops")
    await started(harness)
    before = await generation(harness)
    apply("--server-side", "--field-manager=gitops")
    apply()
    assert await generation(harness) == before


async def test_apply_without_a_started_field_is_refused(harness: Harness, plane: ControlPlane, tmp_path: Path) -> None:
    applying(plane, manifest(tmp_path, harness.namespace, args={"origin": "OAK"}))("--server-side")
    await started(harness)
    with pytest.raises(SetupError, match="args cannot change once the workflow has started"):
        applying(plane, manifest(tmp_path, harness.namespace))("--server-side")


def large_args() -> dict[str, Any]:
    """Return arguments of about 200 KiB, whose comparison must not exceed the cost limit of the API server."""
    return {f"argument-{number}": ["x" * 80] * 10 for number in range(250)}


async def started(harness: Harness) -> None:
    """Write a status with the first attempt, as the operator does."""
    patch = {"status": {"attempt": 1, "phase": str(Phase.PROVISIONING)}}
    await harness.kube.patch(WORKFLOWS, harness.namespace, "trip", patch, subresource="status")


async def generation(harness: Harness) -> int:
    workflow = await harness.workflow()
    assert workflow is not None
    return workflow.generation


def manifest(folder: Path, namespace: str, **spec: Any) -> Path:
    """Write the manifest of a Workflow to a file."""
    body = {
        "apiVersion": "rayworkflow.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "trip", "namespace": namespace},
        "spec": {"entrypoint": "trip:book", "cluster": {"template": TEMPLATE}, **spec},
    }
    file = folder / "trip.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def applying(plane: ControlPlane, file: Path) -> Callable[..., str]:
    return lambda *words: plane.kubectl("apply", *words, "-f", str(file))
