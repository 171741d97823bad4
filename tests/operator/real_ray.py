"""A real Ray head for the contract tests of the Jobs API. It is started once per test session, on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workflow_operator.adapters.ray_jobs import HeadEndpoint

STOP_SECONDS = 60.0
SCRIPT = Path(__file__).with_name("ray_process.py")


@contextmanager
def real_ray(token: str) -> Iterator[HeadEndpoint]:
    """Run a head that requires `token` while the block runs."""
    with socket.socket() as probe, tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(port), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"},
            text=True,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline().strip() == "ready", "Ray did not start"
                yield HeadEndpoint(f"http://127.0.0.1:{port}", token)
            finally:
                process.stdin.close()
                process.wait(STOP_SECONDS)
