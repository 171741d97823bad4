"""Managers in processes of their own, without Ray, that are killed or stopped at a chosen failpoint.

A process starts the run or takes it over, on a folder store, with a fake runner. So registry entries, claims, commits,
blobs and snapshots of one process all pass the same failpoints. Processes are forked from a server that has already
imported all modules.
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
from tests.support.checker import check
from tests.support.claims import take_over
from tests.support.fake_runner import FakeRunner
from tests.support.history import Expected, History
from tests.support.stored import in_folder
from workflow.engine.messages import RunAddress, StepResult, StepTask
from workflow.engine.owner import planning, run_loop
from workflow.engine.owner.manager import Intervals, Manager
from workflow.engine.owner.run_loop import RunLoop
from workflow.errors import SupersededError, WorkflowConflictError, WorkflowInUseError
from workflow.log import registry
from workflow.log.blobs import Blobs
from workflow.log.failpoints import AFTER_COMMIT, NO_FAILPOINTS, Failpoints
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.state import StepState
from workflow.store import Store, folder, open_store

FINISHED, CRASHED, SUPERSEDED, KILLED = 0, 1, 3, -signal.SIGKILL
DEADLINE = 90.0
PACE = Intervals(heartbeat=1.0, notifications=0.05, fence=0.2, follow=0.05, retry=0.05)
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__])


@dataclass
class SignalAt:
    """Sends a signal to its own process when a failpoint is reached for the n-th time.

    Attributes:
        point: name of the failpoint.
        nth: which pass of the failpoint, counted from 1.
        signal_number: the signal.
        torn: send the signal later, when half of the bytes of the next write are in its temporary file.
    """

    point: str
    nth: int = 1
    signal_number: int = signal.SIGKILL
    torn: bool = False

    def attach(self, runner: RecordingRunner) -> None:
        """Receive the runner before the manager starts. A signal at a failpoint does not need it."""

    def reach(self, point: str) -> None:
        if point == self.point:
            self.nth -= 1
            if self.nth == 0:
                if self.torn:
                    _tear_next_write(self.signal_number)
                else:
                    _signal_thread(self.signal_number)


@dataclass
class KillAfterOutcomes:
    """Kills its own process as soon as it has stored a number of new outcomes and expansions.

    Attributes:
        count: number of outcomes and expansions, without those of earlier processes.
        runner: the runner of the process.
    """

    count: int
    runner: RecordingRunner | None = None

    def attach(self, runner: RecordingRunner) -> None:
        """Receive the runner before the manager starts."""
        self.runner = runner

    def reach(self, point: str) -> None:
        if point == AFTER_COMMIT and self.runner is not None and self.runner.attempts:
            done = len(self.runner.attempts[0].run.state.journal)
            if done >= self.runner.before + self.count:
                _signal_thread(signal.SIGKILL)


def _signal_thread(number: int) -> None:
    """Send a signal to the current thread. A signal to the process may stop another thread first."""
    signal.pthread_kill(threading.get_ident(), number)


def _tear_next_write(number: int) -> None:
    """Send the signal when half of the next file that this thread writes into a folder store is written."""
    current_thread = threading.get_ident()

    def opened(file: Any, mode: str = "r", **options: Any) -> Any:
        if mode == "wb" and threading.get_ident() == current_thread:
            return _TornFile(file, number)
        return open(file, mode, **options)

    vars(folder)["open"] = opened


@dataclass
class _TornFile:
    fd: int
    number: int

    def __enter__(self) -> _TornFile:
        return self

    def __exit__(self, *details: object) -> None: ...

    def writelines(self, chunks: tuple[bytes, bytes]) -> None:
        os.write(self.fd, chunks[0][: len(chunks[0]) // 2])
        os.fsync(self.fd)
        _signal_thread(self.number)


@dataclass(frozen=True)
class ProcessSpec:
    """The arguments of one process.

    Attributes:
        url: folder of the store.
        shape: name of the shape of the run.
        name: name of the manager.
        journal: file that gets a line with epoch and step id for each execution.
        fault: when the process kills or stops itself, if at all.
        run_number: number of the run under its workflow id.
        uid: uid of the Workflow object for which the process acts.
        one_step: execute only one step.
    """

    url: str
    shape: str
    name: str
    journal: str
    fault: SignalAt | KillAfterOutcomes | None = None
    run_number: int = 1
    uid: str = ""
    one_step: bool = False


class RecordingRunner(FakeRunner):
    """A fake runner that writes a line for each execution, before the process may die.

    Attributes:
        before: number of outcomes and expansions before the first execution.
    """

    def __init__(self, spec: ProcessSpec, blobs: Blobs) -> None:
        super().__init__(self._script)
        self.before = 0
        self._execute = SHAPES[spec.shape].script(lambda task: blobs)
        self._one_step = spec.one_step
        self._only = ""
        self._journal = os.open(spec.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        if not self.attempts:
            self.before = len(run.state.journal)
        self._only = self._only or task.step_id
        # The checker cannot verify executions with ephemeral inputs: no earlier record describes these inputs.
        if not task.ephemeral_inputs and (not self._one_step or task.step_id == self._only):
            os.write(self._journal, f"{run.state.epoch} {task.step_id}\n".encode())
        super().start(run, step, task)

    def _script(self, task: StepTask) -> StepResult | None:
        return None if self._one_step and task.step_id != self._only else self._execute(task)


def start(spec: ProcessSpec) -> Any:
    """Start a process. The caller must wait for it."""
    process = FORKSERVER.Process(target=_run_process, args=(spec,))
    process.start()
    return process


def wait(process: Any, spec: ProcessSpec) -> int:
    """Return the exit code of a process. An error in the process fails the test."""
    process.join(DEADLINE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    error_file = Path(f"{spec.journal}.error")
    assert not error_file.exists(), error_file.read_text()
    assert code not in (None, CRASHED), f"{spec} {'hangs' if code is None else 'failed'}"
    process.close()
    return int(code)


@dataclass
class FaultyRun:
    """One run on a folder store, executed by as many processes as necessary.

    Attributes:
        folder: contains the store and the journal.
        shape: name of the shape of the run.
        processes: number of processes so far.
    """

    folder: Path
    shape: str
    processes: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)

    @property
    def store(self) -> str:
        """The folder of the store."""
        return str(self.folder / "store")

    def next_process(self, fault: SignalAt | KillAfterOutcomes | None = None, **options: Any) -> ProcessSpec:
        """Return the arguments of the next process."""
        self.processes += 1
        name = f"m{self.processes}"
        return ProcessSpec(self.store, self.shape, name, str(self.folder / "journal"), fault, **options)

    def run_process(self, fault: SignalAt | KillAfterOutcomes | None = None, **options: Any) -> int:
        """Run the next process to its end, and return its exit code."""
        spec = self.next_process(fault, **options)
        return wait(start(spec), spec)

    def executions(self) -> list[tuple[int, str]]:
        """Return epoch and step of each execution so far, in order."""
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [(int(epoch), step_id) for epoch, _, step_id in (line.partition(" ") for line in lines)]

    def history(self) -> History | None:
        """Check the stored part of the run and return it, or None if the run does not exist yet."""
        objects = in_folder(self.store)
        return check(objects, "w") if "workflows/w/registry/0000000001" in objects else None

    def finish(self) -> History:
        """Finish the run in a last process, and check its value against the oracle."""
        assert self.run_process() == FINISHED
        expected = Expected(SHAPES[self.shape].oracle(), self.executions())
        history = check(in_folder(self.store), "w", expected=expected)
        assert {step_id for _, step_id in self.executions()} <= SHAPES[self.shape].steps
        return history


def _run_process(spec: ProcessSpec) -> None:
    """Run a manager until its run is finished or a fault ends the process."""
    logging.disable(logging.CRITICAL)
    run_loop.SNAPSHOT_EVERY, planning.MAX_RUNNING_TASKS = 4, 20
    try:
        code = asyncio.run(_run_manager(spec))
    except BaseException:  # noqa: BLE001 - the test reports every error
        Path(f"{spec.journal}.error").write_text(traceback.format_exc())
        code = CRASHED
    os._exit(code)


async def _take_over(manager: Manager, store: Store, spec: ProcessSpec) -> None:
    while True:
        try:
            await manager.claim(take_over(store, run_number=spec.run_number, uid=spec.uid))
            return
        except WorkflowInUseError:  # a rival claimed the run after its owner was read: take over from the rival
            continue


async def _run_manager(spec: ProcessSpec) -> int:
    store = open_store(spec.url)
    failpoints: Failpoints = spec.fault or NO_FAILPOINTS
    created = runs.created(
        SHAPES[spec.shape].dag,
        run_number=spec.run_number,
        run_uuid=f"run-{spec.run_number}",
        owner=Owner("", uid=spec.uid),
    )
    blobs = RunLog(store, created, failpoints).blobs
    runner = RecordingRunner(spec, blobs)
    if spec.fault is not None:
        spec.fault.attach(runner)
    manager = Manager(store, Owner(spec.name, spec.name, f"address-{spec.name}"), runner, PACE, failpoints)
    await manager.begin()
    try:
        if isinstance(registry.read_entry(store, "w", spec.run_number), Created):
            with contextlib.suppress(WorkflowConflictError):  # the run is finished; only index entries may be missing
                await _take_over(manager, store, spec)
        else:
            blobs.put(b"a function")
            await manager.start(created)
        await manager.wait(RunAddress(spec.url, "w", spec.run_number, created.run_uuid))
    except SupersededError:
        return SUPERSEDED
    finally:
        await manager.leave()
    return FINISHED
