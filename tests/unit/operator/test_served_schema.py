"""Which differences between the served CRD and the needed one are dangerous."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from workflow_operator.api.crds import workflow_schema
from workflow_operator.core.served_schema import differences

Schema = dict[str, Any]


def changed(change: Callable[[Schema, Schema], object]) -> Schema:
    """Return the schema of this operator after a change of the properties of spec and status."""
    schema = copy.deepcopy(workflow_schema())
    change(schema["properties"]["spec"]["properties"], schema["properties"]["status"]["properties"])
    return schema


def test_same_schema_has_no_difference() -> None:
    assert differences(workflow_schema(), workflow_schema()) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda spec, status: spec.pop("cancel"), "spec.cancel is missing", id="spec field"),
        pytest.param(lambda spec, status: status.pop("epoch"), "status.epoch is missing", id="status field"),
        pytest.param(
            lambda spec, status: status["steps"]["properties"].pop("succeeded"),
            "status.steps.succeeded is missing",
            id="nested field",
        ),
        pytest.param(
            lambda spec, status: status["conditions"]["items"]["properties"].pop("reason"),
            "status.conditions[].reason is missing",
            id="field in a list",
        ),
        pytest.param(
            lambda spec, status: status["phase"]["enum"].remove("Resumable"),
            "status.phase does not accept 'Resumable'",
            id="value of an enum",
        ),
        pytest.param(
            lambda spec, status: status["workflowId"].update(maxLength=3),
            "status.workflowId has maxLength 3",
            id="limit",
        ),
    ],
)
def test_older_crd_is_recognized(change: Callable[[Schema, Schema], object], expected: str) -> None:
    assert differences(workflow_schema(), changed(change)) == (expected,)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda spec, status: spec.update(later={"type": "string"}), id="more fields"),
        pytest.param(lambda spec, status: status["phase"]["enum"].append("Later"), id="more values"),
        pytest.param(lambda spec, status: spec["workflowId"].update(maxLength=3), id="stricter for users"),
        pytest.param(
            lambda spec, status: status.update(steps={"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
            id="keeps all fields",
        ),
    ],
)
def test_newer_crd_is_accepted(change: Callable[[Schema, Schema], object]) -> None:
    assert differences(workflow_schema(), changed(change)) == ()
