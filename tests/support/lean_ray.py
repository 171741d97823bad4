"""Starts Ray with only the servers that tests use, which leaves out the dashboard, the autoscaler and the log monitor.

Each of these three takes a second of processor time when Ray starts. The log monitor takes more while Ray runs.

Ray also gets more time to start than its own 30 seconds, since other suites may keep the machine busy.

`python -m tests.support.lean_ray start ...` is `ray start ...` started this way.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

from ray._private import services, utils
from ray._private.node import Node
from ray.scripts import scripts

START_SECONDS = 120.0
PAUSE = 0.2


def make_lean() -> None:
    """Make this process start Ray without the dashboard, the autoscaler and the log monitor from now on."""
    for start in ("start_api_server", "start_monitor", "start_log_monitor"):
        assert hasattr(Node, start), f"ray.Node has no method {start}: see which servers this version of Ray starts"
        setattr(Node, start, _starts_nothing)
    # Without a dashboard the agent of a node serves no HTTP: two Rays on one host would need the same port for it.
    utils.get_dashboard_dependency_error = _no_dashboard
    services.get_node = _patient(services.get_node)


def _starts_nothing(*_: Any, **__: Any) -> None:
    """Replace the method that starts a server."""


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ask for a node until it has registered: Ray asks again for 30 seconds, which includes the first answer."""

    @functools.wraps(get_node)
    def until_registered(*arguments: Any, **options: Any) -> Any:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return get_node(*arguments, **options)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)

    return until_registered


def _no_dashboard() -> ImportError:
    return ImportError("tests use no dashboard")


if __name__ == "__main__":
    make_lean()
    sys.exit(scripts.main())
