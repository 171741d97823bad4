"""A stopped cluster that continues after another one took its run over: it writes nothing and logs the reason."""

from __future__ import annotations

from pathlib import Path

from tests.support import invariants
from tests.support.drivers import Tree, driver
from tests.support.history import Expected
from tests.support.marks import Marks
from tests.support.pipeline import EXPECTED, STEP_IDS
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.store import open_store


def runs_in(folder: Path) -> dict[str, bytes]:
    """All objects of runs, and the index."""
    return {key: data for key, data in in_folder(folder).items() if key.startswith(("workflows/", "index/"))}


def logged(ray_folder: Path) -> list[str]:
    """All lines that the workers of a Ray logged, its managers among them."""
    files = (ray_folder / "session_latest" / "logs").glob("worker-*.err")
    return [line for file in files for line in file.read_text(errors="replace").splitlines()]


def test_stopped_owner_writes_nothing_after_a_takeover(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    store = open_store(str(folder))
    with driver("pipeline.py", str(folder), marks.folder, "w", "run") as old:
        marks.wait_started("work3", timeout=180)
        until(lambda: len(invariants.committed(store, "w")) >= 7)
        old.freeze()
        seen = len(marks.order())
        ray_folder = Path(old.look_around()[0].cwd())
        marks.open("work")  # after the thaw, the frozen step ends at once, with an outcome that must not count
        with driver("pipeline.py", str(folder), marks.folder, "w", "take-over", address=ray_outside[1]) as new:
            assert "as expected" in new.printed("result")
            assert new.ended() == 0
        written = runs_in(folder)
        assert not [line for line in logged(ray_folder) if "is not driven here any more" in line]

        old.thaw()
        assert "as expected" in old.printed("result")  # its driver follows the log of the new owner
        assert old.ended() == 0
        logged_stops = until(lambda: [line for line in logged(ray_folder) if "is not driven here any more" in line])
        assert runs_in(folder) == written
    assert marks.starts()["join"] == marks.starts()["last"] == 1
    view = read_run(store, "w")
    assert view is not None
    assert (view.status, view.epoch) == (WorkflowStatus.SUCCESSFUL, 2)
    assert [info.key for info in store.list("index/")] == ["index/SUCCESSFUL/w"]
    starts = [(1 if number < seen else 2, STEP_IDS[name]) for number, name in enumerate(marks.order())]
    history = invariants.check(store, "w", expected=Expected(str(EXPECTED), starts))
    assert len(logged_stops) == 1
    assert f"another owner wrote segment {history.claims[2]} of run {view.run_uuid}" in logged_stops[0]
