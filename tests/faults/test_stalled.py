"""A writer that is stopped while its run is deleted, or collected before it is made, and another made under its id.

It changes nothing of that one. What it may leave behind lies in a folder that no name names: a collection removes it.
"""

from __future__ import annotations

from pathlib import Path
from signal import SIGSTOP

import psutil
import pytest

from tests.faults.lives import ENDED, SUPERSEDED, At, Life, begin, wait
from tests.faults.shapes import SHAPES
from tests.support.checker import Told, check
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.garbage import collect
from workflow.log import points
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.requests import Actor, delete_run
from workflow.store import open_store

DELETED, NEW = "workflows/w/runs/1-", "workflows/w/runs/3-"
HEARTBEATS = "managers/"
PLACES = {
    "before a blob": At(points.BEFORE_BLOB, 3, SIGSTOP),
    "behind a blob": At(points.AFTER_BLOB, 3, SIGSTOP),
    "before the first commit": At(points.BEFORE_COMMIT, 1, SIGSTOP),
    "before a commit": At(points.BEFORE_COMMIT, 3, SIGSTOP),
    "behind a commit": At(points.AFTER_COMMIT, 3, SIGSTOP),
    "before a snapshot": At(points.BEFORE_SNAPSHOT, 1, SIGSTOP),
    "behind a snapshot": At(points.AFTER_SNAPSHOT, 1, SIGSTOP),
}


@pytest.mark.parametrize("place", PLACES)
def test_it_goes_on_behind_a_delete_and_a_new_run(tmp_path: Path, place: str) -> None:
    url = str(tmp_path / "store")
    old = Life(url, "mixed", "old", str(tmp_path / "old"), PLACES[place], uid="u")
    new = Life(url, "mixed", "new", str(tmp_path / "new"), n=3, uid="u")
    writer = begin(old)
    stalled = psutil.Process(writer.pid)
    try:
        until(lambda: stalled.status() == psutil.STATUS_STOPPED)
        store = open_store(url)
        delete_run(store, "w", n=1, actor=Actor("u", 1, "ns/w"))
        assert not [key for key in in_folder(url) if key.startswith(DELETED)]
        assert wait(begin(new), new) == ENDED
        collect(store, grace=0)
        before = in_folder(url)
    finally:
        stalled.resume()
    assert wait(writer, old) == SUPERSEDED

    behind = in_folder(url)
    left = set(behind) - set(before)
    assert all(key.startswith(DELETED) for key in left), "it may leave objects in the folder of the deleted run only"
    gone = set(before) - set(behind)
    assert all(key.startswith((HEARTBEATS, "owned/old/")) for key in gone), "and takes with it only what says it lives"
    kept = [key for key in before if key not in gone and not key.startswith(HEARTBEATS)]
    assert {key: behind[key] for key in kept} == {key: before[key] for key in kept}
    assert any(key.startswith(NEW) for key in kept)
    check(behind, "w", 3, Told(SHAPES["mixed"].oracle()))
    view = read_run(store, "w", 3)
    assert view is not None
    assert view.status is WorkflowStatus.SUCCESSFUL
    assert [info.key for info in store.list("index/")] == ["index/SUCCESSFUL/w"]

    collect(store, grace=0)
    collected = in_folder(url)
    assert not [key for key in collected if key.startswith((DELETED, "owned/", "doorbell/"))]
    assert {key: data for key, data in behind.items() if not key.startswith(DELETED)} == collected


@pytest.mark.parametrize("point", [points.AFTER_BLOB, points.BEFORE_NAME])
def test_it_goes_on_behind_a_collection_that_forbade_its_run(tmp_path: Path, point: str) -> None:
    url = str(tmp_path / "store")
    old = Life(url, "mixed", "old", str(tmp_path / "old"), At(point, 1, SIGSTOP))
    new = Life(url, "mixed", "new", str(tmp_path / "new"), n=2)
    writer = begin(old)
    stalled = psutil.Process(writer.pid)
    try:
        until(lambda: stalled.status() == psutil.STATUS_STOPPED)
        store = open_store(url)
        collected = collect(store, grace=0)
        assert (collected.runs, collected.forbidden) == (1, 1)
        assert not [key for key in in_folder(url) if key.startswith(DELETED)]
        assert wait(begin(new), new) == ENDED
        before = in_folder(url)
    finally:
        stalled.resume()
    assert wait(writer, old) == SUPERSEDED
    assert not (tmp_path / "old").read_text(), "none of its steps was executed"

    behind = in_folder(url)
    assert {key: behind[key] for key in before if not key.startswith(HEARTBEATS)} == {
        key: data for key, data in before.items() if not key.startswith(HEARTBEATS)
    }
    check(behind, "w", 2, Told(SHAPES["mixed"].oracle()))
    collect(store, grace=0)
    # What the late starter left beside the run that was made instead of its own.
    assert {key for key in behind if not key.startswith(("owned/", "index/RUNNING/"))} == set(in_folder(url))
