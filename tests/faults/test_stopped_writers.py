"""A writer is stopped at a failpoint while other processes change its run. Then it continues.

- If its run was taken over and finished, the writer is fenced.
- If its run was deleted, or abandoned by a collection, another run exists under its id. The writer does not change that
  run. Its late objects are in a folder without a registry entry, and a collection removes them.
- If there was only a collection, the writer is not affected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from signal import SIGSTOP
from typing import Any

import psutil
import pytest

from tests.faults.manager_process import FINISHED, KILLED, SUPERSEDED, FaultyRun, ProcessSpec, SignalAt, start, wait
from tests.faults.shapes import SHAPES
from tests.support.checker import check
from tests.support.history import Expected
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.garbage import collect
from workflow.log import failpoints
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.requests import Requester, delete_run
from workflow.store import open_store

DELETED, NEW = "workflows/w/runs/1-", "workflows/w/runs/3-"
HEARTBEATS = "managers/"
FAULTS = {
    "before a blob": SignalAt(failpoints.BEFORE_BLOB, 3, SIGSTOP),
    "after a blob": SignalAt(failpoints.AFTER_BLOB, 3, SIGSTOP),
    "before the first commit": SignalAt(failpoints.BEFORE_COMMIT, 1, SIGSTOP),
    "before a commit": SignalAt(failpoints.BEFORE_COMMIT, 3, SIGSTOP),
    "after a commit": SignalAt(failpoints.AFTER_COMMIT, 3, SIGSTOP),
    "before a snapshot": SignalAt(failpoints.BEFORE_SNAPSHOT, 1, SIGSTOP),
    "after a snapshot": SignalAt(failpoints.AFTER_SNAPSHOT, 1, SIGSTOP),
}


PASS = {failpoints.BEFORE_BLOB: 3, failpoints.AFTER_BLOB: 3, failpoints.BEFORE_COMMIT: 4, failpoints.AFTER_COMMIT: 4}
"""Failpoint -> its pass at which some objects of the run are stored, and some are not stored yet."""

RUN_KEYS = ("workflows/", "index/")
LATE_WRITES = {
    # A snapshot of a finished run is never read.
    failpoints.BEFORE_SNAPSHOT: f"workflows/w/runs/1-run-1/snapshot/{3:020d}",
    # Readers check a RUNNING entry against the log.
    failpoints.AFTER_CLAIM: "index/RUNNING/w",
}
"""Failpoint -> the key that a fenced writer may still write if it was stopped there."""


@contextlib.contextmanager
def stopped(spec: ProcessSpec) -> Iterator[Any]:
    """Start a process and wait until it stops itself. It continues at the end of the block."""
    writer = start(spec)
    process = psutil.Process(writer.pid)
    try:
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        yield writer
    finally:
        process.resume()


def run_with_stopped_writer(folder: Path, point: str) -> tuple[FaultyRun, ProcessSpec]:
    """Return a run and its process that stops itself. For a claim this is the second process."""
    run = FaultyRun(folder, "mixed")
    if point in (failpoints.BEFORE_CLAIM, failpoints.AFTER_CLAIM):
        assert run.run_process(SignalAt(failpoints.AFTER_COMMIT, 3)) == KILLED
    return run, run.next_process(SignalAt(point, PASS.get(point, 1), SIGSTOP))


@pytest.mark.parametrize("point", failpoints.ALL)
def test_writer_continues_after_its_run_is_finished(tmp_path: Path, point: str) -> None:
    run, stopped_process = run_with_stopped_writer(tmp_path, point)
    with stopped(stopped_process) as writer:
        assert run.run_process() == FINISHED
        before = {key: data for key, data in in_folder(run.store).items() if key.startswith(RUN_KEYS)}
    assert wait(writer, stopped_process) in (FINISHED, SUPERSEDED), "it reads the log to the end, or is superseded"
    after = {key: data for key, data in in_folder(run.store).items() if key.startswith(RUN_KEYS)}
    late = {LATE_WRITES[point]} if point in LATE_WRITES else set()
    assert set(after) - set(before) == late
    assert {key: after[key] for key in before} == before
    check(in_folder(run.store), "w", expected=Expected(SHAPES["mixed"].oracle(), run.executions()))
    collect(open_store(run.store), grace=0)
    assert [key for key in in_folder(run.store) if key.startswith("index/")] == ["index/SUCCESSFUL/w"]


@pytest.mark.parametrize("point", [point for point in failpoints.ALL if point != failpoints.BEFORE_REGISTER])
def test_writer_continues_after_a_collection(tmp_path: Path, point: str) -> None:
    """The collection keeps all objects of the run, also blobs that no record names yet."""
    run, stopped_process = run_with_stopped_writer(tmp_path, point)
    with stopped(stopped_process) as writer:
        before = in_folder(run.store)
        assert any("/registry/" in key for key in before)
        collected = collect(open_store(run.store), grace=0)
        assert (collected.runs, collected.objects, collected.skipped) == (0, 0, [])
        assert in_folder(run.store) == before
    assert wait(writer, stopped_process) == FINISHED
    check(in_folder(run.store), "w", expected=Expected(SHAPES["mixed"].oracle(), run.executions()))


@pytest.mark.parametrize("fault", FAULTS)
def test_writer_continues_after_delete_and_a_new_run(tmp_path: Path, fault: str) -> None:
    url = str(tmp_path / "store")
    old = ProcessSpec(url, "mixed", "old", str(tmp_path / "old"), FAULTS[fault], uid="u")
    new = ProcessSpec(url, "mixed", "new", str(tmp_path / "new"), run_number=3, uid="u")
    with stopped(old) as writer:
        store = open_store(url)
        delete_run(store, "w", run_number=1, requester=Requester("u", 1, "ns/w"))
        assert not [key for key in in_folder(url) if key.startswith(DELETED)]
        assert wait(start(new), new) == FINISHED
        collect(store, grace=0)
        before = in_folder(url)
    assert wait(writer, old) == SUPERSEDED

    after = in_folder(url)
    added = set(after) - set(before)
    assert all(key.startswith(DELETED) for key in added), "it may add objects only to the folder of the deleted run"
    gone = set(before) - set(after)
    assert all(key.startswith((HEARTBEATS, "owned/old/")) for key in gone), "it removes only its own manager keys"
    kept = [key for key in before if key not in gone and not key.startswith(HEARTBEATS)]
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert any(key.startswith(NEW) for key in kept)
    check(after, "w", 3, Expected(SHAPES["mixed"].oracle()))
    view = read_run(store, "w", 3)
    assert view is not None
    assert view.status is WorkflowStatus.SUCCESSFUL
    assert [info.key for info in store.list("index/")] == ["index/SUCCESSFUL/w"]

    collect(store, grace=0)
    collected = in_folder(url)
    assert not [key for key in collected if key.startswith((DELETED, "owned/", "notifications/"))]
    assert {key: data for key, data in after.items() if not key.startswith(DELETED)} == collected


@pytest.mark.parametrize("point", [failpoints.AFTER_BLOB, failpoints.BEFORE_REGISTER])
def test_writer_continues_after_its_run_was_abandoned(tmp_path: Path, point: str) -> None:
    url = str(tmp_path / "store")
    old = ProcessSpec(url, "mixed", "old", str(tmp_path / "old"), SignalAt(point, 1, SIGSTOP))
    new = ProcessSpec(url, "mixed", "new", str(tmp_path / "new"), run_number=2)
    with stopped(old) as writer:
        store = open_store(url)
        collected = collect(store, grace=0)
        assert (collected.runs, collected.abandoned) == (1, 1)
        assert not [key for key in in_folder(url) if key.startswith(DELETED)]
        assert wait(start(new), new) == FINISHED
        before = in_folder(url)
    assert wait(writer, old) == SUPERSEDED
    assert not (tmp_path / "old").read_text(), "one of its steps was executed"

    after = in_folder(url)
    assert {key: after[key] for key in before if not key.startswith(HEARTBEATS)} == {
        key: data for key, data in before.items() if not key.startswith(HEARTBEATS)
    }
    check(after, "w", 2, Expected(SHAPES["mixed"].oracle()))
    collect(store, grace=0)
    # The collection removes what the late starter left of its own run.
    assert {key for key in after if not key.startswith(("owned/", "index/RUNNING/"))} == set(in_folder(url))
