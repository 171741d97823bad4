"""Claims of namespaces: one installation acts in each, and the others report which."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from tests.unit.operator_shell.fake_leases import LeaseConnection, LeaseServer
from workflow_operator.claims import CLAIM_NAME, CLAIM_SECONDS, Claims
from workflow_operator.errors import UnreachableError


@dataclass
class Installation:
    """The claims of one installation, and what it reported."""

    connection: LeaseConnection
    claims: Claims
    reports: list[dict[str, str]] = field(default_factory=list)


class Clock:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def installation(server: LeaseServer, name: str, clock: Clock) -> Installation:
    connection, reports = LeaseConnection(server), list[dict[str, str]]()
    claims = Claims(connection.kube, name, clock, lambda others: reports.append(dict(others)))
    return Installation(connection, claims, reports)


async def test_second_installation_reports_the_first() -> None:
    server, clock = LeaseServer(), Clock()
    first, second = installation(server, "a/rayworkflow", clock), installation(server, "b/rayworkflow", clock)
    assert await first.claims.other_installation("team") == ""
    assert await second.claims.other_installation("team") == "a/rayworkflow"
    assert await second.claims.other_installation("free") == ""
    assert (first.reports, second.reports) == ([], [{"team": "a/rayworkflow"}])


async def test_replicas_of_one_installation_share_the_claim() -> None:
    server, clock = LeaseServer(), Clock()
    replicas = [installation(server, "a/rayworkflow", clock) for _ in range(2)]
    assert [await each.claims.other_installation("team") for each in replicas] == ["", ""]


async def test_claim_of_a_removed_installation_expires() -> None:
    server, clock = LeaseServer(), Clock()
    first, second = installation(server, "a/rayworkflow", clock), installation(server, "b/rayworkflow", clock)
    await first.claims.other_installation("team")
    assert await second.claims.other_installation("team") == "a/rayworkflow"
    clock.now += CLAIM_SECONDS + 1
    assert await second.claims.other_installation("team") == ""
    assert second.reports[-1] == {}
    clock.now += 1
    assert await first.claims.other_installation("team") == "b/rayworkflow", "an installation that returns is second"


async def test_steady_state_needs_no_request() -> None:
    first = installation(LeaseServer(), "a/rayworkflow", Clock())
    for _ in range(3):
        await first.claims.other_installation("team")
    assert first.connection.requests == 2


async def test_listed_namespaces_are_claimed_and_renewed() -> None:
    server, clock = LeaseServer(), Clock()
    first = installation(server, "a/rayworkflow", clock)
    first.claims = Claims(first.connection.kube, "a/rayworkflow", clock, seconds=0.1)
    renewing = asyncio.create_task(first.claims.run(["team", "other"]))
    await asyncio.sleep(0.3)
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    assert set(server.stored) == {("team", CLAIM_NAME), ("other", CLAIM_NAME)}
    assert server.version >= 6


async def test_terminating_namespace_is_still_served() -> None:
    server, clock = LeaseServer(), Clock()
    first = installation(server, "a/rayworkflow", clock)
    server.terminating.add("team")
    assert await first.claims.other_installation("team") == ""


async def test_missing_right_to_claim_does_not_stop_the_operator() -> None:
    first = installation(LeaseServer(), "a/rayworkflow", Clock())
    first.connection.state = "denied"
    assert await first.claims.other_installation("team") == ""


async def test_denied_claim_keeps_a_known_other_installation() -> None:
    server, clock = LeaseServer(), Clock()
    first, second = installation(server, "a/rayworkflow", clock), installation(server, "b/rayworkflow", clock)
    await first.claims.other_installation("team")
    await second.claims.other_installation("team")
    second.connection.state = "denied"
    clock.now += CLAIM_SECONDS + 1
    assert await second.claims.other_installation("team") == "a/rayworkflow"


async def test_unclaimed_namespace_is_not_served_without_an_answer() -> None:
    first = installation(LeaseServer(), "a/rayworkflow", Clock())
    first.connection.state = "down"
    with pytest.raises(UnreachableError):
        await first.claims.other_installation("team")


async def test_outage_shorter_than_the_claim_is_tolerated() -> None:
    clock = Clock()
    first = installation(LeaseServer(), "a/rayworkflow", clock)
    await first.claims.other_installation("team")
    first.connection.state = "down"
    clock.now += CLAIM_SECONDS - 1
    assert await first.claims.other_installation("team") == ""
