"""The reconcile loop: backoff after failures, coalesced triggers, and isolation of errors between Workflows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import structlog

from tests.support.waiting import eventually
from tests.unit.operator import build
from workflow_operator import reconcile
from workflow_operator.api.status import ClusterStatus, HeadIdentity, Phase, WorkflowState
from workflow_operator.core.observation import (
    Defaults,
    Disruption,
    HeadRefused,
    HeadUnreachable,
    JobState,
    Observation,
    SubmissionView,
    WorkflowObject,
)
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.watch_index import Key

TRIP = Key("team", "trip")


@dataclass
class Workflows:
    """A fake API server: each read of `trip` raises the next error. After the last, no Workflow exists."""

    errors: list[Exception]
    reads: list[str] = field(default_factory=list)

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        self.reads.append(name)
        if name == TRIP.name and self.errors:
            raise self.errors.pop(0)
        return None


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(reconcile, "CONFLICT_SECONDS", 0.001)


def reconciler_of(workflows: object, metrics: Metrics | None = None) -> Reconciler:
    clients = Clients(cast(Any, workflows), cast(Any, None), cast(Any, None), cast(Any, None), cast(Any, None))
    return Reconciler(Dependencies(clients, Defaults(), lambda: 0.0, metrics or Metrics()))


@pytest.mark.usefixtures("short_delays")
@pytest.mark.parametrize(
    "error",
    [ConflictError("changed"), UnreachableError("no answer"), RefusedError("no"), ValueError("an unexpected error")],
    ids=["conflict", "unreachable", "refused", "unexpected"],
)
async def test_failed_reconciliation_is_retried(error: Exception) -> None:
    metrics = Metrics()
    workflows = Workflows([error, error])
    reconciler = reconciler_of(workflows, metrics)
    reconciler.trigger(TRIP)
    await eventually(lambda: len(workflows.reads) == 3)
    assert f'rayworkflow_reconcile_errors_total{{error="{type(error).__name__}"}} 2.0' in metrics.exposition().decode()
    await reconciler.stop()


@pytest.mark.usefixtures("short_delays")
async def test_unexpected_error_does_not_stop_other_workflows() -> None:
    workflows = Workflows([ValueError("an unexpected error")] * 10_000)
    reconciler = reconciler_of(workflows)
    reconciler.trigger(TRIP)
    reconciler.trigger(Key("team", "other"))
    await eventually(lambda: "other" in workflows.reads)
    await reconciler.stop()


async def test_deleted_workflow_is_read_once_per_trigger() -> None:
    workflows = Workflows([])
    reconciler = reconciler_of(workflows)
    reconciler.trigger(TRIP)
    reconciler.trigger(TRIP)
    await eventually(lambda: not reconciler._tasks)
    assert workflows.reads == ["trip"]
    reconciler.trigger(TRIP)
    await eventually(lambda: workflows.reads == ["trip", "trip"])
    await reconciler.stop()


async def test_trigger_during_a_reconciliation_starts_another() -> None:
    @dataclass
    class SlowWorkflows(Workflows):
        reading: asyncio.Event = field(default_factory=asyncio.Event)
        proceed: asyncio.Event = field(default_factory=asyncio.Event)

        async def get(self, namespace: str, name: str) -> WorkflowObject | None:
            self.reading.set()
            await self.proceed.wait()
            return await super().get(namespace, name)

    workflows = SlowWorkflows([])
    reconciler = reconciler_of(workflows)
    reconciler.trigger(TRIP)
    await workflows.reading.wait()
    reconciler.trigger(TRIP)
    workflows.proceed.set()
    await eventually(lambda: workflows.reads == ["trip", "trip"])
    await reconciler.stop()


@pytest.mark.usefixtures("short_delays")
async def test_refusal_is_passed_to_the_next_reconciliation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[str] = []

    async def observe(clients: Clients, workflow: WorkflowObject, defaults: Defaults, refused: str) -> Observation:
        received.append(refused)
        if len(received) == 1:
            raise RefusedError("the quota is used up")
        if len(received) == 2:
            raise UnreachableError("no answer")
        raise asyncio.CancelledError

    monkeypatch.setattr(reconcile, "observe", observe)

    class ExistingWorkflows(Workflows):
        async def get(self, namespace: str, name: str) -> WorkflowObject | None:
            return WorkflowObject("trip", "team", "uid-1", 1, "1", 0.0, None, "refused")

    reconciler = reconciler_of(ExistingWorkflows([]))
    reconciler.trigger(TRIP)
    await eventually(lambda: len(received) == 3)
    assert received == ["", "the quota is used up", ""]
    await reconciler.stop()


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (4, 4.0), (50, 30.0)])
def test_backoff_doubles_up_to_30_seconds(failures: int, seconds: float) -> None:
    task = reconcile._Task(failures=failures - 1)
    assert reconcile._backoff(task) == seconds


async def test_success_ends_the_backoff() -> None:
    workflows = Workflows([UnreachableError("no answer"), RefusedError("no"), ValueError("an unexpected error")])
    reconciler, task = reconciler_of(workflows), reconcile._Task()

    async def delays(count: int) -> list[float | None]:
        return [await reconciler._reconcile_or_back_off(TRIP, task) for _ in range(count)]

    assert await delays(4) == [0.5, 1.0, 2.0, None]
    workflows.errors = [UnreachableError("no answer"), ConflictError("changed"), UnreachableError("no answer")]
    assert await delays(4) == [0.5, reconcile.CONFLICT_SECONDS, 1.0, None]


def recorded(head: str, reply: object) -> Observation:
    """Return the observation of a Workflow with the reply of its head."""
    cluster = ClusterStatus(name=head, head=HeadIdentity(pod_uid=head, container_id="c"))
    obj = WorkflowObject(head, "team", head, 1, "1", 0.0, None, state=WorkflowState(cluster=cluster))
    return Observation(obj, submission=cast("Any", reply))


async def test_replies_of_all_heads_are_counted() -> None:
    metrics = Metrics()
    reconciler = reconciler_of(Workflows([]), metrics)
    no_reply, reply = HeadUnreachable("no answer"), SubmissionView(JobState.RUNNING)
    refused = HeadRefused("HeadError", "HTTP 500")
    for head, answer in (("a", no_reply), ("b", no_reply), ("d", reply), ("e", refused)):
        reconciler._with_experience(recorded(head, answer))
    report = reconciler._with_experience(recorded("c", no_reply)).heads
    assert report is not None
    assert (report.asked, report.unreachable) == (5, 3)
    assert report.suspects_network
    assert "rayworkflow_unreachable_heads 3.0" in metrics.exposition().decode()
    assert "rayworkflow_network_suspected 1.0" in metrics.exposition().decode()
    again = reconciler._with_experience(recorded("a", reply)).heads
    assert again is not None
    assert not again.suspects_network
    assert "rayworkflow_network_suspected 0.0" in metrics.exposition().decode()


async def test_workflows_of_one_head_count_once() -> None:
    reconciler = reconciler_of(Workflows([]))
    for _ in range(5):
        report = reconciler._with_experience(recorded("shared", HeadUnreachable("no answer"))).heads
    assert report is not None
    assert (report.asked, report.unreachable) == (1, 1)


async def test_head_that_is_not_asked_has_no_report() -> None:
    reconciler = reconciler_of(Workflows([]))
    assert reconciler._with_experience(recorded("a", None)).heads is None
    without_cluster = Observation(WorkflowObject("trip", "team", "uid", 1, "1", 0.0, None))
    assert reconciler._with_experience(without_cluster) == without_cluster


async def test_disruption_that_a_watch_showed_is_remembered() -> None:
    reconciler = reconciler_of(Workflows([]))
    seen, read = Disruption("PreemptionByScheduler"), Disruption("NodeLost", node_lost=True)
    assert reconciler._with_experience(replace(recorded("a", None), disruption=read)).disruption == read
    reconciler.disruptions["a"] = seen
    assert reconciler._with_experience(replace(recorded("a", None), disruption=read)).disruption == seen
    assert reconciler._with_experience(recorded("b", None)).disruption is None


class StoredWorkflow(Workflows):
    """A fake API server with one Workflow, whose status it stores."""

    workflow = build.workflow(build.state(Phase.PENDING, 0))

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        return self.workflow

    async def patch_status(self, workflow: WorkflowObject, state: WorkflowState) -> str:
        self.workflow = replace(workflow, state=state)
        return workflow.resource_version


async def test_each_change_of_the_phase_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def observe(clients: Clients, workflow: WorkflowObject, defaults: Defaults, refused: str) -> Observation:
        return build.observation_of(workflow)

    async def apply(*arguments: object) -> None:
        """Do nothing."""

    monkeypatch.setattr(reconcile, "observe", observe)
    monkeypatch.setattr(reconcile, "apply", apply)
    reconciler, task = reconciler_of(StoredWorkflow([])), reconcile._Task()
    with structlog.testing.capture_logs() as lines:
        await reconciler._reconcile(TRIP, task)
        await reconciler._reconcile(TRIP, task)
    assert lines == [
        {
            "event": "phase changed",
            "log_level": "info",
            "namespace": "team",
            "workflow": "trip",
            "old": "Pending",
            "new": "Provisioning",
            "reason": "Provisioning",
            "message": "starting the first attempt",
        }
    ]
