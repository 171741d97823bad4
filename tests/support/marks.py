"""Marks that steps leave in files: one line for each start, gates that hold a step, and deaths of processes.

Used by steps in Ray's workers, by managers that die on purpose, and by the tests. This module does not use the library,
so that it cannot share an error with the code under test.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until


@dataclass(frozen=True)
class Marks:
    """The marks of one test. Steps get this object as an argument.

    Attributes:
        folder: the folder of the files.
    """

    folder: str

    def started(self, step: str) -> None:
        """Record one start of a step, in one atomic write."""
        handle = os.open(Path(self.folder) / "starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(handle, f"{step}\n".encode())
        finally:
            os.close(handle)

    def order(self) -> list[str]:
        """Return the steps of all starts so far, in order."""
        path = Path(self.folder) / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def starts(self) -> Counter[str]:
        """Return how often each step was started."""
        return Counter(self.order())

    def open(self, gate: str) -> None:
        """Open a gate permanently. Steps that wait at it continue."""
        (Path(self.folder) / f"gate-{gate}").touch()

    def pass_gate(self, gate: str, timeout: float = 300.0) -> None:
        """Wait until a gate is open, for at most `timeout` seconds."""
        path = Path(self.folder) / f"gate-{gate}"
        until(path.exists, timeout)

    def wait_started(self, step: str, times: int = 1, timeout: float = 120.0) -> None:
        """Wait until a step was started this many times."""
        until(lambda: self.starts()[step] >= times, timeout)

    def die_once(self, place: str, describe: Callable[[], str]) -> None:
        """Kill this process with SIGKILL if it is the first one at a place.

        Args:
            place: name of the place.
            describe: returns a text that is recorded with the death.
        """
        try:
            with open(Path(self.folder) / f"died-{place}", "x") as file:
                file.write(describe())
        except FileExistsError:
            return
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # no further line of this thread is executed

    def died(self) -> dict[str, str]:
        """Return the text of each death, by place."""
        return {path.name.removeprefix("died-"): path.read_text() for path in Path(self.folder).glob("died-*")}
