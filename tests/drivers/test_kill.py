"""The section "Failure model" of the specification: Ray, drivers and managers are killed, and the run continues."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.support import invariants
from tests.support.drivers import Tree, cluster, driver
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run, status_of
from workflow.store import Store, open_store

STEPS = {"load1", "load2", "load3", "share", "spread", "work0", "work1", "work2", "work3", "join", "last"}


def wait_committed(store: Store, count: int, workflow_id: str = "w") -> None:
    def look() -> bool:
        view = read_run(store, workflow_id)
        return view is not None and view.counts.succeeded >= count

    until(look)


def check_starts(marks: Marks, store: Store, committed: set[str], kills: int = 1) -> None:
    """Check how often each step was started, by the number of kills.

    Args:
        committed: steps that were committed before the last kill, so that they were not started after it.
        kills: how many times all processes were killed.
    """
    starts = marks.starts()
    assert set(starts) == STEPS
    for step, times in starts.items():
        allowed = kills if step in committed else kills + 1
        if step == "work1":  # its first attempt fails
            allowed += 1
        assert times <= allowed, (step, starts)
    invariants.check(store, "w")


def middle(marks: Marks, store: Store, workflow_id: str = "w") -> set[str]:
    """Wait until all steps before the gate are committed, and return their names."""
    marks.wait_started("work3", timeout=180)
    wait_committed(store, 7, workflow_id)
    return {"load1", "load2", "load3", "share", "spread", "work0", "work1", "work2"}


def status(store: Store, workflow_id: str) -> WorkflowStatus:
    """Return the status as a reader without Ray sees it."""
    view = read_run(store, workflow_id)
    assert view is not None
    return status_of(store, view)


def test_run_survives_two_kills_of_all_of_ray(marks: Marks, folder: Path, ray_outside: tuple[Tree, str]) -> None:
    """Text: "can be resumed on another cluster" and "the step will never be re-executed"."""
    store = open_store(str(folder))
    with driver("pipeline.py", str(folder), marks.folder, "w", "run") as first:
        wait_committed(store, 2)
        first.kill()
    early = invariants.executed(store, "w")
    with driver("pipeline.py", str(folder), marks.folder, "w", "take-over") as second:
        committed = middle(marks, store)
        second.kill()
    before = invariants.executed(store, "w")
    assert before[: len(early)] == early
    marks.open("work")
    with driver("pipeline.py", str(folder), marks.folder, "w", "take-over", address=ray_outside[1]) as third:
        assert "as expected" in third.printed("result")
        assert third.ended() == 0
    check_starts(marks, store, committed, kills=2)
    assert invariants.executed(store, "w")[: len(before)] == before
    view = read_run(store, "w")
    assert view is not None
    assert (view.status, view.epoch) == (WorkflowStatus.SUCCESSFUL, 3)


def test_workflows_are_resumable_after_ray_was_killed(
    tmp_path: Path, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """Text: "any workflows running on the cluster enter RESUMABLE state"."""
    store = open_store(str(folder))
    marks = {"one": Marks(str(tmp_path / "one")), "other": Marks(str(tmp_path / "other"))}
    with cluster() as (ray_tree, address):
        for wid, where in marks.items():
            Path(where.folder).mkdir()
            with driver("pipeline.py", str(folder), where.folder, wid, "start", address=address) as script:
                assert script.ended() == 0
        for wid, where in marks.items():
            middle(where, store, wid)
        ray_tree.kill()
    assert [status(store, wid) for wid in marks] == [WorkflowStatus.RESUMABLE] * 2
    for (wid, where), how in zip(marks.items(), ("resume", "resume-all"), strict=True):
        before = where.starts()
        where.open("work")
        with driver("pipeline.py", str(folder), where.folder, wid, how, address=ray_outside[1]) as script:
            assert "as expected" in script.printed("result")
            assert script.ended() == 0
        assert where.starts() - before == {"work3": 1, "join": 1, "last": 1}, "only unfinished steps run again"
        assert status(store, wid) is WorkflowStatus.SUCCESSFUL
        invariants.check(store, wid)


def test_same_script_continues_the_run_after_a_kill(marks: Marks, folder: Path) -> None:
    """The script does not call `resume`. The death of the old owner is proven, and not waited for."""
    store = open_store(str(folder))
    with driver("pipeline.py", str(folder), marks.folder, "w", "run") as first:
        committed = middle(marks, store)
        first.kill()
    assert status(store, "w") is WorkflowStatus.RESUMABLE
    marks.open("work")
    with driver("pipeline.py", str(folder), marks.folder, "w", "run") as second:
        assert "as expected" in second.printed("result")
    check_starts(marks, store, committed)


def test_runs_are_released_with_the_ray_of_their_driver(marks: Marks, folder: Path) -> None:
    """By `ray.shutdown()`, and by the end of the script. Calls that read execute nothing."""
    store = open_store(str(folder))
    with driver("endings.py", str(folder), marks.folder) as script:
        output = script.printed("end of the script")
        assert script.ended() == 0
    assert "after the shutdown: RESUMABLE" in output
    refused = [part for part in output.split("\n") if part.startswith("refused OwnerLostError:")]
    assert len(refused) == 2
    assert all("workflow 'w' is RESUMABLE: no manager owns it" in part for part in refused)
    assert "a finished step: value" in output
    assert "resumed: ['w']" in output
    assert list(store.list("managers/")) == [], "another machine sees at once that the owner is gone"
    assert status(store, "w") is WorkflowStatus.RESUMABLE
    assert marks.starts() == {"first": 1, "gated": 2}
    invariants.check(store, "w")


def test_workflow_continues_after_its_driver_was_killed(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """Text: "If the driver exits, the workflow will continue running in the background of the cluster."""
    store = open_store(str(folder))
    address = ray_outside[1]
    with driver("pipeline.py", str(folder), marks.folder, "w", "run", address=address) as first:
        committed = middle(marks, store)
        first.kill_only_the_driver()
        _finish_in_the_background(marks, store)
    view = read_run(store, "w")
    assert view is not None
    assert view.epoch == 1
    with driver("pipeline.py", str(folder), marks.folder, "w", "run", address=address) as again:
        assert "as expected" in again.printed("result")
    check_starts(marks, store, committed | {"work3"})


def test_workflow_continues_after_its_driver_exits(marks: Marks, folder: Path, ray_outside: tuple[Tree, str]) -> None:
    store = open_store(str(folder))
    with driver("pipeline.py", str(folder), marks.folder, "w", "start", address=ray_outside[1]) as first:
        assert first.ended() == 0
    committed = middle(marks, store)
    _finish_in_the_background(marks, store)
    check_starts(marks, store, committed | {"work3"})


def _finish_in_the_background(marks: Marks, store: Store) -> None:
    marks.open("work")

    def look() -> bool:
        view = read_run(store, "w")
        return view is not None and view.status is WorkflowStatus.SUCCESSFUL

    until(look)


def test_restarted_manager_recovers_its_runs(marks: Marks, folder: Path, ray_outside: tuple[Tree, str]) -> None:
    store = open_store(str(folder))
    ray_tree, address = ray_outside
    earlier = _managers(ray_tree)
    with driver("pipeline.py", str(folder), marks.folder, "w", "run", address=address) as first:
        committed = middle(marks, store)
        (manager,) = _managers(ray_tree) - earlier
        manager.kill()
        marks.open("work")
        assert "as expected" in first.printed("result")
    view = read_run(store, "w")
    assert view is not None
    assert view.epoch == 2
    check_starts(marks, store, committed)


def _managers(tree: Tree) -> set[psutil.Process]:
    return {process for process in tree.look_around() if _name(process).startswith("ray::ManagerAct")}


def _name(process: psutil.Process) -> str:
    """Return the name that the kernel keeps, which Ray changes at once; the command line is empty while it changes.

    Empty for a process that has ended: workers of earlier tests end at any time.
    """
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
