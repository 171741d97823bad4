"""What cannot change once a Workflow has started is refused by the API server, with a word on what to do instead."""

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


@pytest.mark.parametrize(("change", "says"), CHANGES)
async def test_before_the_first_attempt_it_may_change(harness: Harness, change: dict[str, Any], says: str) -> None:
    await harness.create()
    await harness.change(**change)


@pytest.mark.parametrize(("change", "says"), CHANGES)
async def test_after_it_may_not(harness: Harness, change: dict[str, Any], says: str) -> None:
    await harness.create()
    async with harness.rounds():
        await harness.until_phase(Phase.RUNNING)
        with pytest.raises(RefusedError, match=says):
            await harness.change(**change)


async def test_cancel_cannot_be_taken_back(harness: Harness) -> None:
    await harness.create(cancel=True)
    with pytest.raises(RefusedError, match="cancel cannot be set back"):
        await harness.change(cancel=False)
