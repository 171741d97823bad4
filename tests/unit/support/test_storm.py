"""The schedule of a storm, and which deletions of clusters its verdict reports."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.e2e.chaos.clusters import Deletion, unhealthy
from tests.e2e.chaos.fleet import harmed
from tests.e2e.chaos.schedule import Kind, schedule

DELETION = Deletion("trip-1", "trip", at=100.0, head="")
LATER = 200.0


def test_same_seed_gives_the_same_schedule() -> None:
    assert schedule(1, 1800, 15) == schedule(1, 1800, 15)
    assert schedule(1, 1800, 15) != schedule(2, 1800, 15)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_occurs_before_one_is_repeated(seed: int) -> None:
    faults = schedule(seed, 1800, 15)
    assert {fault.kind for fault in faults[: len(Kind)]} == set(Kind)
    assert len(Counter(fault.kind for fault in faults)) == len(Kind)
    assert [fault.after for fault in faults] == sorted(fault.after for fault in faults)
    assert faults[-1].after < 1800


@pytest.mark.parametrize(
    ("ended", "head", "hits", "reported"),
    [
        pytest.param(LATER, "", [], True, id="a healthy cluster of a live Workflow"),
        pytest.param(LATER, "", [Kind.QUOTA, Kind.WORKER_KILLED, Kind.DASHBOARD_FROZEN], True, id="harmless faults"),
        pytest.param(LATER, "", [Kind.HEAD_FROZEN], False, id="a frozen head"),
        pytest.param(LATER, "its head pod is not Ready", [], False, id="an unhealthy head"),
        pytest.param(100.5, "", [], False, id="the Workflow ended at this time"),
    ],
)
def test_deletion_of_a_healthy_cluster_is_reported(ended: float, head: str, hits: list[Kind], reported: bool) -> None:
    deletion = Deletion("trip-1", "trip", at=100.0, head=head)
    assert (harmed({"trip": ended}, {"trip-1": deletion}, {"trip-1": hits}) == [deletion]) is reported


def test_cluster_of_a_workflow_without_an_end_is_reported() -> None:
    assert harmed({}, {"trip-1": DELETION}, {}) == [DELETION]


def test_cluster_of_no_workflow_is_not_reported() -> None:
    assert harmed({}, {"shared": Deletion("shared", "", at=1.0, head="")}, {}) == []


@pytest.mark.parametrize(
    ("metadata", "ready", "why"),
    [
        ({}, "True", ""),
        ({}, "False", "its head pod is not Ready"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "True", "its head pod is being deleted"),
    ],
)
def test_health_of_a_head_pod(metadata: dict[str, str], ready: str, why: str) -> None:
    pod = {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
    assert unhealthy(pod) == why
