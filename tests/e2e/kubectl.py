"""kubectl as the tests use it: objects in and out, and a stream of what changes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dev import binaries
from dev.console import run

Object = dict[str, Any]


class Kubectl:
    """The cluster as its administrator.

    Args:
        kubeconfig: of the cluster.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._command = [str(binaries.ensure("kubectl")), "--kubeconfig", str(kubeconfig)]

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """Run it to its end, and return what it printed.

        Raises:
            SetupError: it failed.
        """
        return run([*self._command, *words], stdin=stdin)

    def said(self, *words: str, timeout: float = 30.0) -> str:
        """What it printed, whether it failed or not; for texts that only people read."""
        try:
            done = subprocess.run(
                [*self._command, *words], capture_output=True, text=True, check=False, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return f"kubectl {' '.join(words)} did not end within {timeout} s"
        return done.stdout + done.stderr

    def apply(self, *objects: Object) -> None:
        """Make or change objects."""
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def find(self, kind: str, namespace: str, labels: str = "") -> list[Object]:
        """All objects of a kind in a namespace, with these labels if any are given."""
        selector = ["-l", labels] if labels else []
        found = json.loads(self("-n", namespace, "get", kind, "-o", "json", *selector))
        items: list[Object] = found["items"]
        return items

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, or None."""
        text = self("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start it, its output in a pipe; who starts it ends it."""
        return subprocess.Popen(
            [*self._command, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
        )


def documents(process: subprocess.Popen[str]) -> Iterator[Object]:
    """The JSON documents that a watch prints, one a line, until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
