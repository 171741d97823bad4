"""Describes the program that this process executes."""

from __future__ import annotations

import os
from functools import cache

from workflow.engine.worker import context
from workflow.log import processes
from workflow.model.program import Program


def program_here() -> Program:
    """Return the program of this process; see `Program`."""
    return Program(processes.host(), _process(os.getpid()), context.program_name())


@cache
def _process(pid: int) -> str:
    """Return the id of a process: of the system's start, of the process, and the time when it started."""
    return f"{processes.boot_id()[:8]}-{pid}-{processes.start_time(pid) or os.urandom(4).hex()}"
