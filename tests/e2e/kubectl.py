"""kubectl for these tests: the commands of the demo, and watches and texts for failure messages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from dev.kube import Kube, Object


class Kubectl(Kube):
    """The cluster with the rights of its administrator."""

    def output_of(self, *words: str, timeout: float = 30.0) -> str:
        """Return what kubectl printed, even if it failed. Only people read it."""
        command = [*self._kubectl(), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"kubectl {' '.join(words)} did not finish within {timeout} s"
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start kubectl with its output in a pipe. The caller must end the process."""
        return subprocess.Popen(
            [*self._kubectl(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def documents(process: subprocess.Popen[str]) -> Iterator[Object]:
    """Yield the JSON documents that a watch prints, one per line, until the watch ends."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
