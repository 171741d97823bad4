"""A writer that is stopped at a named point, while others do what they like to its run; then it goes on.

Its run is taken over and finished: it is fenced. Or the run is deleted, or collected before it is made, and another is
made under its id: it changes nothing of that one, and what it leaves lies in a folder that no name names, which a
collection removes. Or others only collect: it notices nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from signal import SIGSTOP
from typing import Any

import psutil
import pytest

from tests.faults.lives import ENDED, KILLED, SUPERSEDED, At, Life, Story, begin, wait
from tests.faults.shapes import SHAPES
from tests.support.checker import Expected, check
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
PLACES = {
    "before a blob": At(failpoints.BEFORE_BLOB, 3, SIGSTOP),
    "behind a blob": At(failpoints.AFTER_BLOB, 3, SIGSTOP),
    "before the first commit": At(failpoints.BEFORE_COMMIT, 1, SIGSTOP),
    "before a commit": At(failpoints.BEFORE_COMMIT, 3, SIGSTOP),
    "behind a commit": At(failpoints.AFTER_COMMIT, 3, SIGSTOP),
    "before a snapshot": At(failpoints.BEFORE_SNAPSHOT, 1, SIGSTOP),
    "behind a snapshot": At(failpoints.AFTER_SNAPSHOT, 1, SIGSTOP),
}


PASS = {failpoints.BEFORE_BLOB: 3, failpoints.AFTER_BLOB: 3, failpoints.BEFORE_COMMIT: 4, failpoints.AFTER_COMMIT: 4}
"""Where something of the run is stored already, and something is still to come."""
ITS_OWN = ("workflows/", "index/")
LATE = {
    # Nobody reads a snapshot of a run that has ended.
    failpoints.BEFORE_SNAPSHOT: f"workflows/w/runs/1-run-1/snapshot/{3:020d}",
    # A RUNNING entry is believed by nobody without a look at the log.
    failpoints.AFTER_CLAIM: "index/RUNNING/w",
}
"""All that a fenced writer may still write, where it was stopped right before that."""


@contextlib.contextmanager
def stopped(life: Life) -> Iterator[Any]:
    """The process of a life that stops itself; at the end of the block it goes on."""
    writer = begin(life)
    process = psutil.Process(writer.pid)
    try:
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        yield writer
    finally:
        process.resume()


def story(folder: Path, point: str) -> tuple[Story, Life]:
    """A run, and a life of it that is to stop; the second one where the first claims nothing."""
    told = Story(folder, "mixed")
    if point in (failpoints.BEFORE_CLAIM, failpoints.AFTER_CLAIM):
        assert told.live(At(failpoints.AFTER_COMMIT, 3)) == KILLED
    return told, told.life(At(point, PASS.get(point, 1), SIGSTOP))


@pytest.mark.parametrize("point", failpoints.ALL)
def test_it_goes_on_behind_the_end_of_its_run_elsewhere(tmp_path: Path, point: str) -> None:
    told, old = story(tmp_path, point)
    with stopped(old) as writer:
        assert told.live() == ENDED
        before = {key: data for key, data in in_folder(told.store).items() if key.startswith(ITS_OWN)}
    assert wait(writer, old) in (ENDED, SUPERSEDED), "it follows the log to the end, or was told to stop"
    behind = {key: data for key, data in in_folder(told.store).items() if key.startswith(ITS_OWN)}
    late = {LATE[point]} if point in LATE else set()
    assert set(behind) - set(before) == late
    assert {key: behind[key] for key in before} == before
    check(in_folder(told.store), "w", expected=Expected(SHAPES["mixed"].oracle(), told.begun()))
    collect(open_store(told.store), grace=0)
    assert [key for key in in_folder(told.store) if key.startswith("index/")] == ["index/SUCCESSFUL/w"]


@pytest.mark.parametrize("point", [point for point in failpoints.ALL if point != failpoints.BEFORE_REGISTER])
def test_it_goes_on_behind_a_collection_that_left_its_run(tmp_path: Path, point: str) -> None:
    """Blobs that no record names yet, above all."""
    told, life = story(tmp_path, point)
    with stopped(life) as writer:
        before = in_folder(told.store)
        assert any("/registry/" in key for key in before)
        collected = collect(open_store(told.store), grace=0)
        assert (collected.runs, collected.objects, collected.left) == (0, 0, [])
        assert in_folder(told.store) == before
    assert wait(writer, life) == ENDED
    check(in_folder(told.store), "w", expected=Expected(SHAPES["mixed"].oracle(), told.begun()))


@pytest.mark.parametrize("place", PLACES)
def test_it_goes_on_behind_a_delete_and_a_new_run(tmp_path: Path, place: str) -> None:
    url = str(tmp_path / "store")
    old = Life(url, "mixed", "old", str(tmp_path / "old"), PLACES[place], uid="u")
    new = Life(url, "mixed", "new", str(tmp_path / "new"), run_number=3, uid="u")
    with stopped(old) as writer:
        store = open_store(url)
        delete_run(store, "w", run_number=1, requester=Requester("u", 1, "ns/w"))
        assert not [key for key in in_folder(url) if key.startswith(DELETED)]
        assert wait(begin(new), new) == ENDED
        collect(store, grace=0)
        before = in_folder(url)
    assert wait(writer, old) == SUPERSEDED

    behind = in_folder(url)
    left = set(behind) - set(before)
    assert all(key.startswith(DELETED) for key in left), "it may leave objects in the folder of the deleted run only"
    gone = set(before) - set(behind)
    assert all(key.startswith((HEARTBEATS, "owned/old/")) for key in gone), "and takes with it only what says it lives"
    kept = [key for key in before if key not in gone and not key.startswith(HEARTBEATS)]
    assert {key: behind[key] for key in kept} == {key: before[key] for key in kept}
    assert any(key.startswith(NEW) for key in kept)
    check(behind, "w", 3, Expected(SHAPES["mixed"].oracle()))
    view = read_run(store, "w", 3)
    assert view is not None
    assert view.status is WorkflowStatus.SUCCESSFUL
    assert [info.key for info in store.list("index/")] == ["index/SUCCESSFUL/w"]

    collect(store, grace=0)
    collected = in_folder(url)
    assert not [key for key in collected if key.startswith((DELETED, "owned/", "notifications/"))]
    assert {key: data for key, data in behind.items() if not key.startswith(DELETED)} == collected


@pytest.mark.parametrize("point", [failpoints.AFTER_BLOB, failpoints.BEFORE_REGISTER])
def test_it_goes_on_behind_a_collection_that_forbade_its_run(tmp_path: Path, point: str) -> None:
    url = str(tmp_path / "store")
    old = Life(url, "mixed", "old", str(tmp_path / "old"), At(point, 1, SIGSTOP))
    new = Life(url, "mixed", "new", str(tmp_path / "new"), run_number=2)
    with stopped(old) as writer:
        store = open_store(url)
        collected = collect(store, grace=0)
        assert (collected.runs, collected.forbidden) == (1, 1)
        assert not [key for key in in_folder(url) if key.startswith(DELETED)]
        assert wait(begin(new), new) == ENDED
        before = in_folder(url)
    assert wait(writer, old) == SUPERSEDED
    assert not (tmp_path / "old").read_text(), "none of its steps was executed"

    behind = in_folder(url)
    assert {key: behind[key] for key in before if not key.startswith(HEARTBEATS)} == {
        key: data for key, data in before.items() if not key.startswith(HEARTBEATS)
    }
    check(behind, "w", 2, Expected(SHAPES["mixed"].oracle()))
    collect(store, grace=0)
    # What the late starter left beside the run that was made instead of its own.
    assert {key for key in behind if not key.startswith(("owned/", "index/RUNNING/"))} == set(in_folder(url))
