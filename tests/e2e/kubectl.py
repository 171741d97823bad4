"""The cluster as these tests use it: what the demo uses, and what is only for people to read or runs on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from dev.kube import Kube, Object


class Kubectl(Kube):
    """The cluster as its administrator."""

    def said(self, *words: str, timeout: float = 30.0) -> str:
        """What kubectl printed, whether it failed or not; for texts that only people read."""
        command = [*self._kubectl(), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"kubectl {' '.join(words)} did not end within {timeout} s"
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start kubectl, its output in a pipe; who starts it ends it."""
        return subprocess.Popen(
            [*self._kubectl(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def documents(process: subprocess.Popen[str]) -> Iterator[Object]:
    """The JSON documents that a watch prints, one a line, until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
