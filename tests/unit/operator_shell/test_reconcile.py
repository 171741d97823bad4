"""The loop around the rounds: what a failed round means for the next one, and that one object's bug is its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.support.waiting import eventually
from workflow_operator import reconcile
from workflow_operator.core.observation import Defaults, Observation, WorkflowObject
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.watch_index import Key

TRIP = Key("team", "trip")


@dataclass
class Workflows:
    """Answers each look with the next of its answers, and then with "gone"."""

    answers: list[Exception]
    looks: list[str] = field(default_factory=list)

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        self.looks.append(name)
        if name == TRIP.name and self.answers:
            raise self.answers.pop(0)
        return None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(reconcile, "CONFLICT_SECONDS", 0.001)


def reconciler_of(workflows: object, metrics: Metrics | None = None) -> Reconciler:
    clients = Clients(cast(Any, workflows), cast(Any, None), cast(Any, None), cast(Any, None), cast(Any, None))
    return Reconciler(Dependencies(clients, Defaults(), lambda: 0.0, metrics or Metrics()))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "error",
    [ConflictError("changed"), UnreachableError("no answer"), RefusedError("no"), ValueError("a bug")],
    ids=["conflict", "unreachable", "refused", "bug"],
)
async def test_a_round_that_failed_is_made_again(error: Exception) -> None:
    metrics = Metrics()
    workflows = Workflows([error, error])
    reconciler = reconciler_of(workflows, metrics)
    reconciler.wake(TRIP)
    await eventually(lambda: len(workflows.looks) == 3)
    assert f'rayworkflow_reconcile_errors_total{{kind="{type(error).__name__}"}} 2.0' in metrics.exposed().decode()
    await reconciler.stop()


@pytest.mark.usefixtures("quick")
async def test_the_bug_of_one_does_not_stop_another() -> None:
    workflows = Workflows([ValueError("a bug")] * 10_000)
    reconciler = reconciler_of(workflows)
    reconciler.wake(TRIP)
    reconciler.wake(Key("team", "other"))
    await eventually(lambda: "other" in workflows.looks)
    await reconciler.stop()


async def test_who_is_gone_is_looked_at_once_and_wakes_again() -> None:
    workflows = Workflows([])
    reconciler = reconciler_of(workflows)
    reconciler.wake(TRIP)
    reconciler.wake(TRIP)
    await eventually(lambda: not reconciler._tasks)
    assert workflows.looks == ["trip"]
    reconciler.wake(TRIP)
    await eventually(lambda: workflows.looks == ["trip", "trip"])
    await reconciler.stop()


async def test_an_event_in_the_middle_of_a_round_makes_another_one() -> None:
    @dataclass
    class Slow(Workflows):
        inside: asyncio.Event = field(default_factory=asyncio.Event)
        go_on: asyncio.Event = field(default_factory=asyncio.Event)

        async def get(self, namespace: str, name: str) -> WorkflowObject | None:
            self.inside.set()
            await self.go_on.wait()
            return await super().get(namespace, name)

    workflows = Slow([])
    reconciler = reconciler_of(workflows)
    reconciler.wake(TRIP)
    await workflows.inside.wait()
    reconciler.wake(TRIP)
    workflows.go_on.set()
    await eventually(lambda: workflows.looks == ["trip", "trip"])
    await reconciler.stop()


@pytest.mark.usefixtures("quick")
async def test_a_refusal_is_told_to_the_next_round_only(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def observe(clients: Clients, workflow: WorkflowObject, defaults: Defaults, refused: str) -> Observation:
        told.append(refused)
        if len(told) == 1:
            raise RefusedError("the quota is used up")
        if len(told) == 2:
            raise UnreachableError("no answer")
        raise asyncio.CancelledError

    monkeypatch.setattr(reconcile, "observe", observe)

    class There(Workflows):
        async def get(self, namespace: str, name: str) -> WorkflowObject | None:
            return WorkflowObject("trip", "team", "uid-1", 1, "1", 0.0, None, "refused")

    reconciler = reconciler_of(There([]))
    reconciler.wake(TRIP)
    await eventually(lambda: len(told) == 3)
    assert told == ["", "the quota is used up", ""]
    await reconciler.stop()


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (4, 4.0), (50, 30.0)])
def test_waits_grow_up_to_a_bound(failures: int, seconds: float) -> None:
    task = reconcile._Task(failures=failures - 1)
    assert reconcile._backoff(task) == seconds
