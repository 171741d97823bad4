"""The lease at a real API server: made where there is none, given back at the end, taken over by the next."""

from __future__ import annotations

import asyncio

from tests.operator.harness import Harness
from workflow_operator.adapters.kube import LEASES
from workflow_operator.adapters.lease import Terms, lead


async def test_the_first_replica_makes_the_lease_and_the_next_takes_it_as_soon_as_it_is_given_back(
    harness: Harness,
) -> None:
    order: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def work(name: str, leads: asyncio.Event) -> None:
        order.append(name)
        leads.set()
        await asyncio.Event().wait()

    def replica(name: str, leads: asyncio.Event) -> asyncio.Task[None]:
        terms = Terms(harness.namespace, "operator", name, seconds=60)
        return asyncio.create_task(lead(terms, harness.kube, lambda: work(name, leads)))

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
