"""Starts Ray with only the servers that tests use, which leaves out the dashboard, the autoscaler and the log monitor.

Each of these three takes a second of processor time when Ray starts. The log monitor takes more while Ray runs.

`python -m tests.support.lean_ray start ...` is `ray start ...` without them.
"""

from __future__ import annotations

import sys
from typing import Any

from ray._private import utils
from ray._private.node import Node
from ray.scripts import scripts


def make_lean() -> None:
    """Make this process start Ray without the dashboard, the autoscaler and the log monitor from now on."""
    for start in ("start_api_server", "start_monitor", "start_log_monitor"):
        assert hasattr(Node, start), f"ray.Node has no method {start}: see which servers this version of Ray starts"
        setattr(Node, start, _starts_nothing)
    # Without a dashboard the agent of a node serves no HTTP: two Rays on one host would need the same port for it.
    utils.get_dashboard_dependency_error = _no_dashboard


def _starts_nothing(*_: Any, **__: Any) -> None:
    """Replace the method that starts a server."""


def _no_dashboard() -> ImportError:
    return ImportError("tests use no dashboard")


if __name__ == "__main__":
    make_lean()
    sys.exit(scripts.main())
