"""Memory of processes as the kernel counts it: the present size and the peak."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

KIB = 1024


def memory(pid: int, name: str) -> int:
    """Return bytes from /proc/<pid>/status: VmRSS (now) or VmHWM (the peak since the last reset)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    raise AssertionError(f"/proc/{pid}/status has no line {name}")


def reset_peak(pid: int) -> None:
    """Reset VmHWM to the present size."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def manager_pid() -> int:
    """Return the pid of the only manager on the Ray that this process started."""
    for child in psutil.Process().children(recursive=True):
        try:
            if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::ManagerActor"):
                return child.pid
        except psutil.NoSuchProcess:
            continue
    raise AssertionError("no manager process was found")


@dataclass(frozen=True)
class MemoryAtStart:
    """The memory of a process before it read the arguments of a step.

    Attributes:
        pid: the process.
        size: its size in bytes.
        peak_before: its peak until then, in bytes.
        at: the time, in seconds since 1970.
    """

    pid: int
    size: int
    peak_before: int
    at: float

    def growth(self, peak: int) -> int:
        """Return by how many bytes a later peak exceeds the size."""
        return peak - self.size


class MeasureStart:
    """The first argument of a step. Unpickling it measures the memory, before the other arguments are read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _measure, ()


def _measure() -> MemoryAtStart:
    pid = os.getpid()
    peak = memory(pid, "VmHWM")
    reset_peak(pid)
    return MemoryAtStart(pid, memory(pid, "VmRSS"), peak, time.time())
