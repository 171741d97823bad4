"""Large and odd values on a real API server: arguments, results, and objects at the size limit."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest

from tests.operator.harness import Harness
from workflow.model.result_text import render
from workflow.submission import ExitCode
from workflow_operator.api.status import Phase
from workflow_operator.core.names import submission_id
from workflow_operator.errors import RefusedError

MIB = 1 << 20
LARGE_BODY = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
"""The operator itself sends no body of more than 1 MiB."""


@LARGE_BODY
@pytest.mark.parametrize("text", ["ü" * 24_000, "x" * MIB], ids=["48 KB", "1 MiB"])
async def test_arguments_of_any_size_reach_the_driver(harness: Harness, text: str) -> None:
    created = await harness.create(args={"text": text, "password": "hidden"})
    harness.manager.allow(2)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 2, timeout=60)
        cluster = (await harness.state()).cluster
        assert cluster is not None
        job = harness.ray.head(harness.namespace, cluster.name).jobs[submission_id(created.uid, 1)]
        harness.manager.allow_all()
        await harness.until_phase(Phase.SUCCEEDED)
    assert harness.manager.arguments == [{"text": text, "password": "hidden"}]
    posted = json.dumps(job.body)
    assert len(posted) < 4_000
    assert "hidden" not in posted


@pytest.mark.parametrize(
    "value",
    [None, [math.factorial(200), "é\ud800", {"a": None}], json.loads("[" * 300 + "]" * 300), b"x"],
    ids=["None", "values that Kubernetes changes", "300 levels", "bytes"],
)
async def test_every_result_ends_in_a_phase(harness: Harness, value: Any) -> None:
    await harness.create()
    harness.manager.result = render(value, 40)
    harness.manager.allow_all()
    async with harness.reconciling():
        state = await harness.until_phase(Phase.SUCCEEDED)
    if isinstance(value, bytes):
        assert state.result is None
        assert "the result is a bytes of 1 bytes" in state.result_note
    else:
        assert state.result is not None
        assert json.loads(state.result) == value
        assert state.result_note == ""


async def fill(harness: Harness, name: str) -> None:
    """Create a Workflow that leaves less than 80 bytes of the 1.5 MiB of etcd."""
    for size in range(1_572_500, 1_571_500, -80):
        with contextlib.suppress(RefusedError):
            await harness.create(name, args={"text": "x" * size})
            return
    raise AssertionError("the API server refuses an object of 1,571,500 bytes")


@LARGE_BODY
async def test_large_object_gets_its_phase_and_reasons(harness: Harness) -> None:
    """The first object leaves no room for the result, and the second one no room for any status."""
    await harness.create("tight", args={"text": "x" * 1_567_700})
    await fill(harness, "full")
    harness.manager.result = json.dumps("r" * 4_000)
    harness.manager.allow_all()
    async with harness.reconciling("tight"):
        state = await harness.until_phase(Phase.SUCCEEDED, "tight", timeout=60)
    condition = state.condition("Succeeded")
    assert condition is not None
    assert condition.reason == "Succeeded"
    assert (state.result, "refused to store the result" in state.result_note) == (None, True)
    async with harness.reconciling("full"):
        await harness.until_event("StatusRefused")
    assert (await harness.state("full")).phase is None


async def test_run_continues_after_a_resume_was_refused(harness: Harness) -> None:
    """The cluster of the second attempt cannot continue the run. A later cluster has what was missing."""
    await harness.create(recovery={"backoff": {"initialSeconds": 0}})
    harness.manager.allow(2)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 2)
        harness.manager.exits = [ExitCode.BAD_INPUT, ExitCode.STORE_REFUSED]
        await harness.kill_head()
        await harness.until_event("ResumeRefused")
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert (state.attempt, state.steps.succeeded) == (4, 3)
    assert set(harness.manager.started.values()) == {1}, "no committed step ran again"
