"""Marks that steps leave outside the library: a line in a file for each start, gates that hold a step, and deaths.

Used by steps in Ray's workers, by whatever else is to die there, and by the tests that count. Knows nothing of
workflows, so that it cannot share an error with what it checks.
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
    """A folder with the marks of one test; travels into steps as an argument.

    Attributes:
        folder: where they lie.
    """

    folder: str

    def started(self, step: str) -> None:
        """Note one start, in one write that cannot be torn."""
        handle = os.open(Path(self.folder) / "starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(handle, f"{step}\n".encode())
        finally:
            os.close(handle)

    def order(self) -> list[str]:
        """All starts so far, in order."""
        path = Path(self.folder) / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def starts(self) -> Counter[str]:
        """How often each step was started."""
        return Counter(self.order())

    def open(self, gate: str) -> None:
        """Let whoever waits at a gate go on, for ever."""
        (Path(self.folder) / f"gate-{gate}").touch()

    def pass_gate(self, gate: str, timeout: float = 300.0) -> None:
        """Wait at a gate."""
        path = Path(self.folder) / f"gate-{gate}"
        until(path.exists, timeout)

    def wait_started(self, step: str, times: int = 1, timeout: float = 120.0) -> None:
        """Return once a step was started so often."""
        until(lambda: self.starts()[step] >= times, timeout)

    def die_once(self, place: str, look: Callable[[], str]) -> None:
        """SIGKILL for this process, if it is the first that comes to a place; what it saw there is kept."""
        try:
            with open(Path(self.folder) / f"died-{place}", "x") as file:
                file.write(look())
        except FileExistsError:
            return
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # this very thread goes no further

    def died(self) -> dict[str, str]:
        """What each process saw that died, by place."""
        return {path.name.removeprefix("died-"): path.read_text() for path in Path(self.folder).glob("died-*")}
