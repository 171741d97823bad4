"""Refuses the use of workflows in a process that was forked from a process with a connection to Ray.

The threads of the connection exist only in the parent. Every call of Ray in the child would wait without limit, even
`ray.shutdown`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import ray

from workflow.errors import InvalidInputError


@dataclass
class _Fork:
    connected_parent: int = 0


_fork = _Fork()


def refuse_after_fork() -> None:
    """Return if this process can use Ray.

    Raises:
        InvalidInputError: it was forked from a process that was connected to Ray.
    """
    if _fork.connected_parent:
        raise InvalidInputError(
            f"cannot use workflows in process {os.getpid()}: it was forked from process {_fork.connected_parent}, and "
            "the connection of that process to Ray does not work in a forked process; start the process with "
            "multiprocessing.get_context('spawn'), or fork before the first use of Ray"
        )


def _remember_connection() -> None:
    if ray.is_initialized():
        _fork.connected_parent = os.getppid()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_remember_connection)
