"""Leader election: it survives a busy event loop, stops in time when the lease is lost, and starts again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from tests.support.waiting import eventually
from tests.unit.operator_shell.fake_leases import LeaseConnection, LeaseServer
from workflow_operator.adapters.kube import Kube
from workflow_operator.adapters.lease import LeaseConfig
from workflow_operator.leadership import Leadership, LeaseLostError, run_as_leader

SECONDS = 1.5
"""Duration of the lease. The leader stops after 1 s without a renewal."""

LONG_SECONDS = 3.0
"""Duration in tests in which a slow machine must not lose the lease."""


@dataclass
class Replica:
    """A replica whose work records when it was allowed to act."""

    name: str
    connection: LeaseConnection
    acts: list[float] = field(default_factory=list)
    terms: int = 0
    leadership: Leadership = field(default_factory=lambda: Leadership(time.monotonic))
    seconds: float = SECONDS

    async def work(self) -> None:
        """Act every 10 ms, each time after a check of the leadership, as before a write."""
        self.terms += 1
        while True:
            if self.leadership.is_current:
                self.acts.append(time.monotonic())
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run the replica while the block runs."""
        config = LeaseConfig("team", "operator", self.name, self.seconds)
        task = asyncio.create_task(run_as_leader(config, self.connection.connect, self.work, self.leadership))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_terms(self, terms: int) -> None:
        """Wait until the work has started this many times."""

        async def check() -> bool:
            assert self.terms == terms
            return True

        await eventually(check)


def replicas(*names: str, seconds: float = SECONDS) -> list[Replica]:
    server = LeaseServer()
    return [Replica(name, LeaseConnection(server), seconds=seconds) for name in names]


def block(seconds: float) -> None:
    """Keep the event loop of this thread busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


async def test_busy_event_loop_keeps_the_lease() -> None:
    one, two = replicas("one", "two", seconds=LONG_SECONDS)
    async with one.running():
        await one.until_terms(1)
        async with two.running():
            await asyncio.sleep(0.1)
            block(2 * LONG_SECONDS)
            assert one.leadership.is_current
            await asyncio.sleep(0.1)
        assert (one.terms, two.terms) == (1, 0)


@pytest.mark.parametrize("state", ["down", "hung", "denied"])
async def test_lost_lease_ends_the_term_and_not_the_process(state: str) -> None:
    (one,) = replicas("one")
    async with one.running() as task:
        await one.until_terms(1)
        cut = time.monotonic()
        one.connection.state = state
        await eventually(lambda: _is_stopped(one), 5)
        assert max(one.acts) - cut < SECONDS, "it stops before another replica may take over"
        with pytest.raises(LeaseLostError, match="a write was withheld"):
            one.leadership.check()
        one.connection.state = "up"
        await one.until_terms(2)
        one.leadership.check()
        assert not task.done()


async def _is_stopped(replica: Replica) -> bool:
    assert not replica.leadership.is_current
    return True


async def test_two_replicas_never_act_at_once() -> None:
    one, two = replicas("one", "two", seconds=LONG_SECONDS)
    async with one.running(), two.running():
        for _ in range(2):
            leader, other = await _leader_and_other(one, two)
            leader.connection.state = "hung"
            block(LONG_SECONDS / 2)
            await other.until_terms(other.terms + 1)
            leader.connection.state = "up"
    terms = sorted([(at, "one") for at in one.acts] + [(at, "two") for at in two.acts])
    changes = sum(before[1] != after[1] for before, after in pairwise(terms))
    assert changes == 2, "each replica acted only during its terms"


async def _leader_and_other(one: Replica, two: Replica) -> tuple[Replica, Replica]:
    async def current() -> Replica:
        leaders = [each for each in (one, two) if each.leadership.is_current]
        assert len(leaders) == 1
        return leaders[0]

    leader = await eventually(current)
    return leader, two if leader is one else one


async def test_stopped_leader_releases_the_lease() -> None:
    one, two = replicas("one", "two")
    async with one.running():
        await one.until_terms(1)
    spec = one.connection.server.stored["team", "operator"]["spec"]
    assert "holderIdentity" not in spec
    async with two.running():
        await two.until_terms(1)
    assert one.connection.server.stored["team", "operator"]["spec"]["leaseTransitions"] == 1


async def test_error_of_the_work_ends_the_election() -> None:
    (one,) = replicas("one")

    async def fail() -> None:
        raise ValueError("a bug")

    config = LeaseConfig("team", "operator", "one", SECONDS)
    with pytest.raises(ValueError, match="a bug"):
        await run_as_leader(config, one.connection.connect, fail, one.leadership)
    assert "holderIdentity" not in one.connection.server.stored["team", "operator"]["spec"]


async def test_error_of_the_thread_is_raised() -> None:
    (one,) = replicas("one")

    def broken() -> AbstractAsyncContextManager[Kube]:
        raise RuntimeError("no credentials")

    config = LeaseConfig("team", "operator", "one", SECONDS)
    with pytest.raises(RuntimeError, match="no credentials"):
        await run_as_leader(config, broken, one.work, one.leadership)
