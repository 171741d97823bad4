"""The operator as a process, as in its container: it is terminated or killed, and another process continues."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.operator.harness import Harness
from workflow_operator.adapters.kube import LEASES
from workflow_operator.api.status import Phase

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(harness: Harness, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m workflow_operator` with the harness's settings while the block runs, then kill it."""
    values = harness.settings.model_dump(mode="json") | settings
    values["namespaces"] = ",".join(harness.settings.namespaces)
    environment = {f"RAYWORKFLOW_{name.upper()}": str(value) for name, value in values.items()}
    path = os.pathsep.join((str(ROOT), str(ROOT / "operator")))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workflow_operator",
        env={**os.environ, **environment, "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def test_terminated_operator_releases_the_lease(harness: Harness) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with process(harness, identity="one") as running:
        await harness.until(lambda state: state.steps.succeeded == 1)
        running.terminate()
        output, _ = await asyncio.wait_for(running.communicate(), 20)
    assert running.returncode == 0
    lines = [json.loads(line) for line in output.decode().splitlines()]
    events = [line["event"] for line in lines if line["level"] == "info"]
    assert [event for event in events if event != "phase changed"] == ["leading", "stopped"]
    lease = await harness.kube.get(LEASES, harness.namespace, harness.settings.lease_name)
    assert lease is not None
    assert "holderIdentity" not in lease["spec"], "the lease is released, so that its expiry need not be awaited"
    async with process(harness, identity="two"):
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert (state.attempt, len(harness.manager.payloads)) == (1, 1)


async def test_another_process_continues_after_a_kill(harness: Harness) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with process(harness, leader_election="false") as running:
        await harness.until(lambda state: state.steps.succeeded == 1)
        running.kill()
        await running.wait()
    await harness.kill_head()
    harness.manager.allow_all()
    async with process(harness, leader_election="false"):
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert (state.attempt, state.epoch, state.steps.succeeded) == (2, 2, 3)
