"""A process that has collected the tests once, and forks for each mutant."""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dev.mutants import patching
from dev.mutants.mutant import Mutant, Verdict

SURVIVED, NOTICED, NOT_POSSIBLE = 0, 1, 2


@dataclass(frozen=True)
class Task:
    """One mutant, as the process receives it.

    Attributes:
        module: the path of the module.
        before: its text.
        code: the text of the mutant.
        limits: for each of its tests, in their order, the seconds after which the mutant has timed out.
    """

    module: str
    before: str
    code: str
    limits: Mapping[str, float]


class Server:
    """A plugin of pytest that tests mutants instead of running the collected tests."""

    def __init__(self, connection: Connection) -> None:
        """Remember where tasks come from."""
        self.connection = connection

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Test mutants until the other end closes the connection."""
        items = {item.nodeid: item for item in session.items}
        self.connection.send(None)
        while True:
            try:
                task = self.connection.recv()
            except EOFError:
                return True
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                _run(session, [items[test] for test in task.limits if test in items], task)
            self.connection.send(_wait(child, sum(task.limits.values())))


def _run(session: pytest.Session, items: Sequence[pytest.Item], task: Task) -> None:
    """Run tests until one fails, and exit."""
    os.setpgid(0, 0)
    code = NOT_POSSIBLE
    try:
        module = patching.imported(str(Path.cwd() / task.module))
        changed = patching.changed_functions(task.before, task.code)
        if module is not None and changed and patching.put_into(module, changed):
            code = NOTICED  # an interrupt or an exit in a test counts, too
            for item, following in zip(items, [*items[1:], None], strict=True):
                signal.setitimer(signal.ITIMER_REAL, task.limits[item.nodeid])  # it ends the process
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.testsfailed:
                    break
            else:
                code = SURVIVED
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> Verdict | None:
    """Return the verdict of a child; None if the mutant needs a process of its own."""
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = bool(poll.poll(seconds * 1000))
    with contextlib.suppress(ProcessLookupError):  # it ended, and left no process
        os.killpg(child, signal.SIGKILL)
    os.close(handle)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ended or status == -signal.SIGALRM:
        return Verdict.TIMED_OUT
    return {SURVIVED: Verdict.SURVIVED, NOT_POSSIBLE: None}.get(status, Verdict.NOTICED)


class Client:
    """The other end: one process, for one thread."""

    def __init__(self, connection: Connection, process: multiprocessing.process.BaseProcess) -> None:
        """Wait until the tests are collected.

        Raises:
            EOFError: the collection failed.
        """
        self._connection = connection
        self._process = process
        connection.recv()

    def verdict(self, mutant: Mutant, before: str, limits: Mapping[str, float]) -> Verdict | None:
        """Return the verdict of a mutant; None if it needs a process of its own.

        Args:
            mutant: the changed module, with the lines of its change.
            before: the text of the module without it.
            limits: for each of its tests, in their order, the seconds after which it has timed out.
        """
        self._connection.send(Task(mutant.key.module, before, mutant.code, limits))
        found: Verdict | None = self._connection.recv()
        return found

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()
