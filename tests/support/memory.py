"""Memory of processes as the kernel counts it: what they hold, and the most they held."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

KIB = 1024


def memory(pid: int, name: str) -> int:
    """Bytes, by /proc/<pid>/status: VmRSS (now) or VmHWM (the most since the last reset)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    raise AssertionError(f"/proc/{pid}/status says nothing of {name}")


def reset_peak(pid: int) -> None:
    """Let VmHWM begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def manager_pid() -> int:
    """The process of the one manager on the Ray that this process started."""
    for child in psutil.Process().children(recursive=True):
        try:
            if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::ManagerActor"):
                return child.pid
        except psutil.NoSuchProcess:
            continue
    raise AssertionError("no process of a manager was found")


@dataclass(frozen=True)
class Begun:
    """What a process held when the arguments of a step began to be read there.

    Attributes:
        held: bytes.
        most_before: bytes, the most it had held until then.
        at: when, in seconds.
    """

    pid: int
    held: int
    most_before: int
    at: float

    def grown(self, most: int) -> int:
        """Bytes by which a peak is above what was held."""
        return most - self.held


class Beginning:
    """An argument that becomes a Begun where it is unpickled, before the arguments behind it; resets the peak."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _begin, ()


def _begin() -> Begun:
    pid = os.getpid()
    most = memory(pid, "VmHWM")
    reset_peak(pid)
    return Begun(pid, memory(pid, "VmRSS"), most, time.time())
