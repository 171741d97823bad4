"""Lives of managers in processes of their own, without Ray, that end as a test says: by a signal, at a named place.

A life makes the run or takes it over, on a folder store, with a fake runner in its own process, so that names, claims,
commits, blobs and snapshots of one life all pass the same points. Processes are forked from one that has imported all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.shapes import SHAPES
from tests.support import runs
from tests.support.checker import History, Expected, check
from tests.support.fake_runner import FakeRunner
from tests.support.stored import in_folder
from workflow.engine.messages import RunAddress, StepResult, StepTask
from workflow.engine.owner import planning, run_loop
from workflow.engine.owner.manager import ClaimRequest, Intervals, Manager
from workflow.engine.owner.run_loop import RunLoop
from workflow.errors import SupersededError, WorkflowConflictError
from workflow.log import registry
from workflow.log.blobs import Blobs
from workflow.log.failpoints import AFTER_COMMIT, NO_FAILPOINTS, Failpoints
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.state import StepState
from workflow.store import folder, open_store

ENDED, BROKEN, SUPERSEDED, KILLED = 0, 1, 3, -signal.SIGKILL
DEADLINE = 90.0
PACE = Intervals(heartbeat=1.0, bell=0.05, fence=0.2, follow=0.05, store=0.05)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


@dataclass
class At:
    """A signal for the own process at the n-th time that a point is reached.

    Attributes:
        torn: not at the point, but with half of the bytes that are written next in the temporary file.
    """

    point: str
    nth: int = 1
    number: int = signal.SIGKILL
    torn: bool = False

    def begin(self, runner: NotingRunner) -> None:
        """Told of the runner before the manager begins."""

    def reach(self, point: str) -> None:
        """See the port."""
        if point == self.point:
            self.nth -= 1
            if self.nth == 0:
                if self.torn:
                    _tear_next_write(self.number)
                else:
                    _signal_here(self.number)


@dataclass
class BehindOutcomes:
    """SIGKILL as soon as so many outcomes and expansions more are stored than there were before this life."""

    count: int
    runner: NotingRunner | None = None

    def begin(self, runner: NotingRunner) -> None:
        """See `At`."""
        self.runner = runner

    def reach(self, point: str) -> None:
        """See the port."""
        if point == AFTER_COMMIT and self.runner is not None and self.runner.tries:
            done = len(self.runner.tries[0].run.state.journal)
            if done >= self.runner.before + self.count:
                _signal_here(signal.SIGKILL)


def _signal_here(number: int) -> None:
    """A signal to this very thread: one to the process may reach another first, and this one goes on meanwhile."""
    signal.pthread_kill(threading.get_ident(), number)


def _tear_next_write(number: int) -> None:
    """The next file that this thread writes into a folder store is half there when the signal comes."""
    mine = threading.get_ident()

    def opened(file: Any, mode: str = "r", **options: Any) -> Any:
        return _Torn(file, number) if mode == "wb" and threading.get_ident() == mine else open(file, mode, **options)

    vars(folder)["open"] = opened


@dataclass
class _Torn:
    fd: int
    number: int

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *details: object) -> None: ...

    def writelines(self, chunks: tuple[bytes, bytes]) -> None:
        os.write(self.fd, chunks[0][: len(chunks[0]) // 2])
        os.fsync(self.fd)
        _signal_here(self.number)


@dataclass(frozen=True)
class Life:
    """What a process is told.

    Attributes:
        url: the store's folder.
        shape: which of the shapes.
        name: of the manager.
        notes: a file that gets a line for each execution: its epoch and step id.
        n: which run under the id.
        uid: of the object it acts for.
        one: execute one step only.
    """

    url: str
    shape: str
    name: str
    notes: str
    fate: At | BehindOutcomes | None = None
    run_number: int = 1
    uid: str = ""
    one: bool = False


class NotingRunner(FakeRunner):
    """A fake runner that notes each execution, durably enough for the death of its process.

    Attributes:
        before: outcomes and expansions that were there before the first execution.
    """

    def __init__(self, life: Life, blobs: Blobs) -> None:
        super().__init__(self._script)
        self.before = 0
        self._act = SHAPES[life.shape].script(lambda task: blobs)
        self._one = life.one
        self._only = ""
        self._notes = os.open(life.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """See the port."""
        if not self.tries:
            self.before = len(run.state.journal)
        self._only = self._only or task.step_id
        # Of what was lent to a step no record tells before the step began.
        if not task.held and (not self._one or task.step_id == self._only):
            os.write(self._notes, f"{run.state.epoch} {task.step_id}\n".encode())
        super().start(run, step, task)

    def _script(self, task: StepTask) -> StepResult | None:
        return None if self._one and task.step_id != self._only else self._act(task)


def begin(life: Life) -> Any:
    """Start a life; the process is the caller's to wait for."""
    process = PROCESSES.Process(target=_live, args=(life,))
    process.start()
    return process


def wait(process: Any, life: Life) -> int:
    """A life's exit code; what went wrong in it fails the test."""
    process.join(DEADLINE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    trouble = Path(f"{life.notes}.trouble")
    assert not trouble.exists(), trouble.read_text()
    assert code not in (None, BROKEN), f"{life} {'hangs' if code is None else 'is broken'}"
    process.close()
    return int(code)


@dataclass
class Story:
    """One run on a folder store, over as many lives as it takes.

    Attributes:
        folder: holds the store and the notes.
        shape: which of the shapes.
    """

    folder: Path
    shape: str
    lives: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)

    @property
    def store(self) -> str:
        """The store's folder."""
        return str(self.folder / "store")

    def life(self, fate: At | BehindOutcomes | None = None, **more: Any) -> Life:
        """The next one."""
        self.lives += 1
        return Life(self.store, self.shape, f"m{self.lives}", str(self.folder / "notes"), fate, **more)

    def live(self, fate: At | BehindOutcomes | None = None, **more: Any) -> int:
        """The next one, to its end.

        Returns:
            Its exit code.
        """
        life = self.life(fate, **more)
        return wait(begin(life), life)

    def begun(self) -> list[tuple[int, str]]:
        """Epoch and step of each execution so far, in order."""
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [(int(epoch), step_id) for epoch, _, step_id in (line.partition(" ") for line in lines)]

    def history(self) -> History | None:
        """The run so far, checked as far as it is stored; None where it does not exist yet."""
        objects = in_folder(self.store)
        return check(objects, "w") if "workflows/w/registry/0000000001" in objects else None

    def finish(self) -> History:
        """A last life; then the run is what the oracle says, and nothing was lost or doubled."""
        assert self.live() == ENDED
        told = Expected(SHAPES[self.shape].oracle(), self.begun())
        history = check(in_folder(self.store), "w", expected=told)
        assert {step_id for _, step_id in self.begun()} <= SHAPES[self.shape].steps
        return history


def _live(life: Life) -> None:
    """The process."""
    logging.disable(logging.CRITICAL)
    run_loop.SNAPSHOT_EVERY, planning.MOST_IN_FLIGHT = 4, 20
    try:
        code = asyncio.run(_drive(life))
    except BaseException:  # noqa: BLE001 - whatever it was, the test shows it
        Path(f"{life.notes}.trouble").write_text(traceback.format_exc())
        code = BROKEN
    os._exit(code)


async def _drive(life: Life) -> int:
    store = open_store(life.url)
    failpoints: Failpoints = life.fate or NO_FAILPOINTS
    created = runs.created(
        SHAPES[life.shape].dag,
        run_number=life.run_number,
        run_uuid=f"run-{life.run_number}",
        owner=Owner("", uid=life.uid),
    )
    blobs = RunLog(store, created, failpoints).blobs
    runner = NotingRunner(life, blobs)
    if life.fate is not None:
        life.fate.begin(runner)
    manager = Manager(store, Owner(life.name, life.name, f"address-{life.name}"), runner, PACE, failpoints)
    await manager.begin()
    try:
        if isinstance(registry.read_entry(store, "w", life.run_number), Created):
            with contextlib.suppress(WorkflowConflictError):  # it ended, and only its hints were not written any more
                await manager.claim(ClaimRequest("w", life.run_number, uid=life.uid, take_over=True))
        else:
            blobs.put(b"a function")
            await manager.start(created)
        await manager.wait(RunAddress(life.url, "w", life.run_number, created.run_uuid))
    except SupersededError:
        return SUPERSEDED
    finally:
        await manager.leave()
    return ENDED
