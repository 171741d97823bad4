"""The end of a driver's log is copied from its head to the run. A failure or a delay only becomes a text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.support.waiting import eventually
from tests.unit.operator import build
from tests.unit.operator_shell.test_submissions import HEAD, RUN, RecordingJobs, submissions
from workflow.reading import read_driver_logs
from workflow.store import open_store
from workflow_operator import apply as applying
from workflow_operator import reconcile
from workflow_operator.adapters.ray_jobs import LOG_TAIL, LOG_TAIL_JSON, HeadEndpoint, Job, _log_of
from workflow_operator.adapters.runs import StoredRuns
from workflow_operator.api.status import DriverLog, Phase, WorkflowState
from workflow_operator.apply import NoFailpoints, apply
from workflow_operator.core.actions import Action, Decision, DeleteCluster, HeadRef, RunRef, StoreDriverLog, StoreRef
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.observation import Defaults, Observation, WorkflowObject
from workflow_operator.errors import OperatorError, RefusedError, UnreachableError
from workflow_operator.observe import Clients
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.watch_index import Key

STORE = StoreDriverLog(RUN, HEAD, "rwf-uid-1-1", 1)


@dataclass
class Systems:
    """Fakes of a head, a store and RayClusters in one object."""

    log_result: bytes | Exception | None = b"hello"
    store_result: str | Exception = "s3://b/team/x"
    deleted: list[str] = field(default_factory=list)

    async def log(self, namespace: str, head: HeadRef, submission_id: str) -> bytes:
        if self.log_result is None:
            await asyncio.Event().wait()
        if isinstance(self.log_result, Exception):
            raise self.log_result
        return self.log_result or b""

    async def store_driver_log(self, namespace: str, run: RunRef, submission_id: str, log: bytes) -> str:
        if isinstance(self.store_result, Exception):
            raise self.store_result
        return self.store_result

    async def delete(self, namespace: str, name: str, uid: str) -> None:
        self.deleted.append(name)


async def carry_out(systems: Systems) -> list[DriverLog]:
    reported: list[DriverLog] = []
    fake = cast(Any, systems)
    actions: list[Action] = [STORE, DeleteCluster("trip-1", "uid")]
    clients = Clients(fake, fake, fake, fake, fake)
    await apply(clients, build.workflow(), "1", actions, NoFailpoints(), reported.append)
    assert systems.deleted == ["trip-1"], "the actions after it are carried out whatever happened to the log"
    return reported


async def test_place_of_the_log_is_reported() -> None:
    assert await carry_out(Systems()) == [DriverLog(attempt=1, location="s3://b/team/x")]


@pytest.mark.parametrize(
    "systems",
    [
        pytest.param(Systems(log_result=UnreachableError("no answer")), id="head is gone"),
        pytest.param(Systems(log_result=RefusedError("no answer")), id="token is wrong"),
        pytest.param(Systems(store_result=UnreachableError("no answer")), id="store is down"),
    ],
)
async def test_failure_is_reported_as_a_loss(systems: Systems) -> None:
    assert await carry_out(systems) == [DriverLog(attempt=1, message="lost: no answer")]


async def test_head_that_does_not_reply_delays_only_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "DRIVER_LOG_SECONDS", 0.01)
    (reported,) = await carry_out(Systems(log_result=None))
    assert reported.message.startswith("lost: it was not copied to storage within")
    await eventually(lambda: not [task for task in asyncio.all_tasks() if "copy" in repr(task.get_coro())])


def answer_of(text: str) -> bytes:
    return json.dumps({"logs": text}).encode()[-LOG_TAIL_JSON:]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param('a "quoted"\tline\\n\nsecond {"logs": "x"}\n', id="escapes"),
        pytest.param("größer 😀\n", id="not ASCII"),
    ],
)
def test_whole_log_is_kept(text: str) -> None:
    assert _log_of(answer_of(text)).decode() == text


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda number: f"line {number}: größer 😀 \\ \\n", id="escapes"),
        pytest.param(lambda number: "\x00" * 100 + str(number), id="escapes of six characters"),
        pytest.param(lambda number: f"line {number}", id="plain"),
    ],
)
def test_end_of_a_long_log_is_kept_in_whole_lines(make: Callable[[int], str]) -> None:
    lines = [make(number) for number in range(40_000)]
    kept = _log_of(answer_of("\n".join(lines)))
    assert LOG_TAIL * 0.9 < len(kept) <= LOG_TAIL
    found = kept.decode().split("\n")
    assert found == lines[-len(found) :]


def test_long_line_without_an_end_is_kept() -> None:
    kept = _log_of(answer_of("word " * LOG_TAIL_JSON))
    assert len(kept) > LOG_TAIL * 0.9


def test_answer_that_is_no_log_is_refused() -> None:
    with pytest.raises(UnreachableError, match="is not a log"):
        _log_of(b"<html>")


@dataclass
class ExitingJobs(RecordingJobs):
    """A head whose driver exits after some polls."""

    polls: int = 3

    async def job(self, head: HeadEndpoint, submission_id: str) -> Job | None:
        self.polls -= 1
        return Job(submission_id, "SUCCEEDED" if self.polls <= 0 else "RUNNING", {})

    async def log_tail(self, head: HeadEndpoint, submission_id: str) -> bytes:
        return f"after {self.polls} polls".encode()


@pytest.mark.parametrize(("polls", "read"), [(3, b"after 0 polls"), (100, b"after 92 polls")])
async def test_log_is_read_after_the_driver_has_exited(
    polls: int, read: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_operator.adapters.submissions.EXIT_POLL_SECONDS", 0.0)
    assert await submissions(ExitingJobs(polls=polls)).log("team", HEAD, "rwf-1") == read


async def test_log_is_stored_beside_the_run() -> None:
    async def none(namespace: str, name: str) -> tuple[Any, Any]:
        raise AssertionError("no Secret and no ConfigMap is needed")

    runs, url = StoredRuns(none, none), "memory://driver-logs/team?x=1"
    run = RunRef(StoreRef(url, ""), "trip", 1, "run-1", "uid-1", 1, "trip")
    location = await runs.store_driver_log("team", run, "rwf-uid-1-1", b"hello")
    assert location == "memory://driver-logs/team/workflows/trip/runs/1-run-1/drivers/rwf-uid-1-1"
    assert read_driver_logs(open_store(url), "trip") == {"rwf-uid-1-1": "hello"}
    runs.close()


@dataclass
class OneWorkflow(Systems):
    """An API server with one Workflow. The first writes of its status fail as given."""

    state: WorkflowState = field(default_factory=lambda: build.state(Phase.RUNNING))
    failures: list[OperatorError | None] = field(default_factory=list)

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        return build.workflow(self.state)

    async def patch_status(self, workflow: WorkflowObject, state: WorkflowState) -> str:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.state = state
        return "1"

    async def emit(self, workflow: WorkflowObject, event: object) -> None:
        """Accept the event."""


def observe_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each round observe that the run has failed."""

    async def observe(clients: Clients, workflow: WorkflowObject, defaults: Defaults, refused: str) -> Observation:
        return build.running(workflow, run=build.read(build.view(WorkflowStatus.FAILED)))

    monkeypatch.setattr(reconcile, "observe", observe)
    monkeypatch.setattr(reconcile, "FIRST_RETRY_SECONDS", 0.001)


def reconciler_of(systems: OneWorkflow) -> Reconciler:
    fake = cast(Any, systems)
    return Reconciler(Dependencies(Clients(fake, fake, fake, fake, fake), Defaults(), lambda: build.NOW))


@pytest.mark.parametrize(
    "failures", [[], [None, UnreachableError("no answer")]], ids=["no failure", "the second write fails"]
)
async def test_next_round_writes_the_place_to_the_status(
    failures: list[OperatorError | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe_end(monkeypatch)
    systems = OneWorkflow(failures=failures)
    reconciler = reconciler_of(systems)
    reconciler.trigger(Key("team", "trip"))
    stored = DriverLog(attempt=1, location="s3://b/team/x")
    await eventually(lambda: systems.state.driver_log == stored)
    await eventually(lambda: not reconciler._tasks)
    assert systems.state.phase is Phase.FAILED
    await reconciler.stop()


async def test_log_that_the_status_does_not_take_repeats_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, a user removed it from the status."""

    def ignores_it(observation: Observation, now: float) -> Decision:
        return decide(observation, now) if observation.driver_log is None else Decision(observation.workflow.state)

    observe_end(monkeypatch)
    monkeypatch.setattr(reconcile, "decide", ignores_it)
    systems = OneWorkflow()
    reconciler = reconciler_of(systems)
    reconciler.trigger(Key("team", "trip"))
    await eventually(lambda: systems.state.phase is Phase.FAILED and not reconciler._tasks)
    await reconciler.stop()
