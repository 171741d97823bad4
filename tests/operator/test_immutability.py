"""Immutable fields: after a Workflow has started, the API server refuses to change them and explains what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operator.harness import Harness
from workflow_operator.api.status import Phase
from workflow_operator.errors import RefusedError

CHANGES = [
    pytest.param({"entrypoint": "trip:other"}, "entrypoint cannot change once", id="entrypoint"),
    pytest.param({"workflowId": "nightly"}, "workflowId cannot change once", id="workflow id"),
    pytest.param({"code": {"configMap": {"name": "other"}}}, "code cannot change once", id="code"),
    pytest.param({"storage": {"uri": "s3://other/x"}}, "storage cannot change once", id="storage"),
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
    async with harness.reconciling():
        await harness.until_phase(Phase.RUNNING)
        with pytest.raises(RefusedError, match=message):
            await harness.change(**change)


async def test_cancel_cannot_be_reset(harness: Harness) -> None:
    await harness.create(cancel=True)
    with pytest.raises(RefusedError, match="cancel cannot be set back"):
        await harness.change(cancel=False)
