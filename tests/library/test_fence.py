"""A cluster that was stopped, taken over from, and goes on as a zombie: it writes nothing and says so."""

from __future__ import annotations

from pathlib import Path

from tests.support import invariants
from tests.support.drivers import driver
from tests.support.marks import Marks
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.store import open_store


def runs_in(folder: Path) -> dict[str, bytes]:
    """All that a run is: names, logs, snapshots, blobs and inboxes, and the hints that list answers are read from."""
    return {key: data for key, data in in_folder(folder).items() if key.startswith(("workflows/", "index/"))}


def test_sigstop_takeover_finish_sigcont(marks: Marks, folder: Path) -> None:
    store = open_store(str(folder))
    with driver("pipeline.py", str(folder), marks.folder, "w", "run") as old:
        marks.wait_started("work3", timeout=180)
        until(lambda: len(invariants.committed(store, "w")) >= 7)
        old.freeze()
        marks.open("work")  # the frozen step ends as soon as it goes on, with an outcome nobody wants
        with driver("pipeline.py", str(folder), marks.folder, "w", "take-over") as new:
            assert "as expected" in new.printed("result")
            assert new.ended() == 0
        written = runs_in(folder)

        old.thaw()
        assert "as expected" in old.printed("result")  # its driver follows the log of the new owner
        assert old.ended() == 0
        assert runs_in(folder) == written
    assert marks.starts()["join"] == marks.starts()["last"] == 1
    view = read_run(store, "w")
    assert view is not None
    assert (view.status, view.epoch) == (WorkflowStatus.SUCCESSFUL, 2)
    assert [info.key for info in store.list("index/")] == ["index/SUCCESSFUL/w"]
    invariants.check(store, "w")
