"""The log line of a call that waits for a run."""

from __future__ import annotations

import pytest

from tests.support import runs
from workflow.engine.driver.progress import describe_progress, progress
from workflow.engine.messages import RunAddress
from workflow.log import liveness, registry
from workflow.log.run_log import RunLog
from workflow.model.run_view import Owner
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.model.totals import RunTotals
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

OWNER = Owner("m1", "i1", "manager-1")


@pytest.mark.parametrize(
    ("running", "age", "expected"),
    [
        ((), 1.0, "2 of 7 steps finished, running: 4"),
        (("a", "b"), 1.0, "2 of 7 steps finished, running: 4 (a, b)"),
        (("a", "b", "c", "d"), 1.0, "2 of 7 steps finished, running: 4 (a, b, c and 1 more)"),
        (
            (),
            14.0,
            "2 of 7 steps finished, running: 4; its owner manager-1 has sent no heartbeat for 14 s, and is considered "
            "lost after 30 s",
        ),
        (
            (),
            None,
            "2 of 7 steps finished, running: 4; its owner manager-1 sends no heartbeat, and is considered lost after "
            "30 s",
        ),
    ],
)
def test_the_line_names_steps_and_a_silent_owner(running: tuple[str, ...], age: float | None, expected: str) -> None:
    totals = RunTotals(
        1, OWNER, WorkflowStatus.RUNNING, {StepPhase.COMMITTED: 2, StepPhase.RUNNING: 4, StepPhase.WAITING: 1}
    )
    assert progress(totals, running, age) == expected


def test_a_finished_run_is_described_as_finished() -> None:
    assert "finished" in progress(RunTotals(1, OWNER, WorkflowStatus.FAILED, {}), (), 1.0)


def test_a_run_in_a_store_is_described() -> None:
    store = FailingStore(MemoryStore("m"))
    entry = runs.created(runs.graph("a b:a"), owner=OWNER)
    registry.register(store, entry)
    log = RunLog(store, entry)
    log.begin()
    runs.append(log, [runs.started("a")])
    liveness.send_heartbeat(store, OWNER, 1)
    address = RunAddress(store.url, "w", 1, entry.run_uuid)
    assert describe_progress(store, address) == "workflow 'w': 0 of 2 steps finished, running: 1 (a)"
    store.fail("get", times=100)
    assert describe_progress(store, address).startswith("workflow 'w'; its log cannot be read now: ")


def test_a_run_that_was_deleted_is_only_named() -> None:
    assert describe_progress(MemoryStore("m"), RunAddress("m", "w", 1, "u")) == "workflow 'w'"
