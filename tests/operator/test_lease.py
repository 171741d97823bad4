"""The lease on a real API server: it is created, released, and acquired by the next replica."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager

from tests.operator.harness import Harness
from workflow_operator.adapters.kube import LEASES, Kube, connected
from workflow_operator.adapters.lease import LeaseConfig
from workflow_operator.leadership import Leadership, run_as_leader


async def test_released_lease_is_acquired_before_it_expires(harness: Harness) -> None:
    order: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def work(name: str, is_leader: asyncio.Event) -> None:
        order.append(name)
        is_leader.set()
        await asyncio.Event().wait()

    def connect() -> AbstractAsyncContextManager[Kube]:
        return connected(harness.settings.kubeconfig)

    def replica(name: str, is_leader: asyncio.Event) -> asyncio.Task[None]:
        lease = LeaseConfig(harness.namespace, "operator", name, seconds=60)
        leadership = Leadership(time.monotonic)
        return asyncio.create_task(run_as_leader(lease, connect, lambda: work(name, is_leader), leadership))

    one = replica("one", first)
    await asyncio.wait_for(first.wait(), 20)
    lease = await harness.kube.get(LEASES, harness.namespace, "operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "one"
    two = replica("two", second)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    await asyncio.wait_for(second.wait(), 40)
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)
    assert order == ["one", "two"]
