"""Describes processes so that other processes of the same machine can prove that they have ended.

A description names the machine since its start, and each process by its pid and the time when it started. So a pid that
was used again, a restarted machine and another container are never mistaken. Linux only: elsewhere there is no
description, and nothing is proven.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import socket
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

_DESCRIPTION: Final = re.compile(r"(?P<machine>[0-9a-f]+)(?P<processes>( [0-9]+-[0-9]+)+)")


def describe(pids: Sequence[int]) -> str:
    """Describe running processes of this machine.

    Args:
        pids: their pids, at least one.

    Returns:
        The machine, and `pid-start time` of each process. Empty if that cannot be read here.
    """
    machine, started = this_machine(), [start_time(pid) for pid in pids]
    if not machine or not all(started):
        return ""
    return " ".join([machine, *(f"{pid}-{start}" for pid, start in zip(pids, started, strict=True))])


def have_ended(description: str) -> bool:
    """Return whether all described processes have certainly ended.

    It is False if one of them runs. It is also False if that cannot be known here: they ran on another machine or in
    another container, or there is no description.
    """
    processes = _of_this_machine(description)
    return bool(processes) and all(_has_ended(pid, start) for pid, start in processes)


def wait_until_ended(description: str, seconds: float) -> bool:
    """Wait until all described processes have ended.

    Args:
        description: the processes; those of another machine are not waited for.
        seconds: how long to wait for all of them together.

    Returns:
        Whether all have certainly ended.
    """
    deadline = time.monotonic() + seconds
    for pid, start in _of_this_machine(description):
        if not _has_ended(pid, start):
            _wait(pid, deadline - time.monotonic())
    return have_ended(description)


def last_pid(description: str) -> int:
    """Return the pid of the process that was described last; 0 if there is no description."""
    found = _DESCRIPTION.fullmatch(description)
    return int(found["processes"].split()[-1].split("-")[0]) if found is not None else 0


def host() -> str:
    """Return a hash of the machine id and the host name. Containers of one machine have different host names."""
    return _hash(_read("/etc/machine-id"), socket.gethostname())


@cache
def this_machine() -> str:
    """Return a hash of the host, its last start, and the namespace of the pids here; empty if they cannot be read."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # not on Linux
        return ""
    boot = boot_id()
    return _hash(host(), boot, namespace) if boot else ""


@cache
def boot_id() -> str:
    """Return the id of the machine's last start; empty if it cannot be read."""
    return _read("/proc/sys/kernel/random/boot_id")


def start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since the start of the machine; empty if it cannot be read."""
    status = _status(pid)
    return status[19] if status else ""


def name(pid: int) -> str:
    """Return the name of a process, at most 15 characters of it; empty if it cannot be read."""
    return _read(f"/proc/{pid}/comm")


def parent(pid: int) -> int:
    """Return the pid of the parent of a process; 0 if it cannot be read."""
    status = _status(pid)
    return int(status[1]) if status else 0


def _of_this_machine(description: str) -> list[tuple[int, str]]:
    """Return pid and start time of each described process; empty if they ran on another machine."""
    found = _DESCRIPTION.fullmatch(description)
    if found is None or found["machine"] != this_machine():
        return []
    described = (process.split("-") for process in found["processes"].split())
    return [(int(pid), start) for pid, start in described]


def _wait(pid: int, seconds: float) -> None:
    """Wait until a process ends."""
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it has ended meanwhile, or this kernel cannot wait for it
        return
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.poll(max(seconds, 0.0) * 1000)
    finally:
        os.close(process)


def _has_ended(pid: int, start: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it belongs to another user
        pass
    status = _status(pid)
    if not status:  # the machine may hide processes of other users
        return False
    return status[0] in ("Z", "X") or status[19] != start


def _status(pid: int) -> list[str]:
    """Return the fields of a process from its state on (`proc_pid_stat(5)`); empty if they cannot be read."""
    status = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before it may contain spaces
    return status if len(status) > 19 else []


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:  # not on Linux, or the process has ended
        return ""


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
