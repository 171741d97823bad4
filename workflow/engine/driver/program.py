"""Describes the program that this process executes."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

from workflow.engine.worker import context
from workflow.model.program import Program


def program_here() -> Program:
    """Return the program of this process; see `Program`."""
    return Program(_host(), _process(os.getpid()), context.program_name())


@cache
def _host() -> str:
    """Return a hash of the machine id and the host name. Containers of one machine have different host names."""
    machine = _read("/etc/machine-id")
    return hashlib.sha256(f"{machine}\n{socket.gethostname()}".encode()).hexdigest()[:12]


@cache
def _process(pid: int) -> str:
    """Return the id of a process: of the system's start, of the process, and the time when it started."""
    boot = _read("/proc/sys/kernel/random/boot_id")[:8]
    status = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before it may contain spaces
    started = status[19] if len(status) > 19 else ""
    return f"{boot}-{pid}-{started or os.urandom(4).hex()}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:  # not on Linux
        return ""
