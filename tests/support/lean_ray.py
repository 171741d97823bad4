"""Ray without the servers that no test uses: the dashboard, the autoscaler and the log monitor.

Each of them costs a second of processor time when Ray starts, and the log monitor more for as long as Ray runs. Tests
start Ray often. What is left is what executes tasks and actors.

`python -m tests.support.lean_ray start ...` is `ray start ...` without these servers.
"""

from __future__ import annotations

import sys
from typing import Any

from ray._private import utils
from ray._private.node import Node
from ray.scripts import scripts


def make_lean() -> None:
    """Let this process start Ray without these servers from now on."""
    for start in ("start_api_server", "start_monitor", "start_log_monitor"):
        assert hasattr(Node, start), f"ray.Node has no method {start}: see which servers this version of Ray starts"
        setattr(Node, start, _starts_nothing)
    # The agent of a node then serves no HTTP, so that two Rays on one host do not need the same port.
    utils.get_dashboard_dependency_error = _no_dashboard


def _starts_nothing(*_: Any, **__: Any) -> None:
    """In place of a server's start."""


def _no_dashboard() -> ImportError:
    return ImportError("tests use no dashboard")


if __name__ == "__main__":
    make_lean()
    sys.exit(scripts.main())
