"""The cluster as the demo and the end-to-end tests use it: kubectl, helm and forwarded ports on one kubeconfig."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev import binaries
from dev.console import SetupError, run

Object = dict[str, Any]
_FORWARDS_WITHIN_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Kube:
    """A cluster.

    Attributes:
        kubeconfig: address and credentials of an administrator.
    """

    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl to its end.

        Returns:
            What it wrote.

        Raises:
            SetupError: it failed; its words are in the text.
        """
        return run([*self._kubectl(), *words], stdin=stdin)

    def helm(self, *words: str | Path, stdin: str | None = None) -> str:
        """Run helm to its end; like `kubectl`."""
        return run([binaries.ensure("helm"), "--kubeconfig", self.kubeconfig, *words], stdin=stdin)

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """One object, or None where there is none."""
        where = ("-n", namespace) if namespace else ()
        text = self.kubectl(*where, "get", kind, name, "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def objects(self, kind: str, namespace: str, labels: str = "") -> list[Object]:
        """Those of a namespace that carry the labels (`a=b,c=d`)."""
        selector = ("-l", labels) if labels else ()
        items: list[Object] = json.loads(self.kubectl("-n", namespace, "get", kind, *selector, "-o", "json"))["items"]
        return items

    def apply(self, *objects: Object) -> None:
        """Apply objects, given as JSON."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(listed))

    @contextlib.contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """Reach a port of a pod or service from this machine, inside the block.

        Args:
            namespace: its namespace.
            target: `service/name` or `pod/name`.
            port: its port.

        Yields:
            `127.0.0.1:PORT`.
        """
        with self._lines("-n", namespace, "port-forward", target, f":{port}") as lines:
            try:
                first = lines.get(timeout=_FORWARDS_WITHIN_SECONDS)
            except queue.Empty:
                raise SetupError(f"no port of {target} in {namespace} was forwarded") from None
            found = re.search(r"127\.0\.0\.1:\d+", first)
            if found is None:
                raise SetupError(f"no port of {target} in {namespace} was forwarded: {first}")
            yield found[0]

    @contextlib.contextmanager
    def watched(self, kind: str, name: str, namespace: str, *fields: str) -> Iterator[queue.Queue[tuple[float, str]]]:
        """Follow fields of an object, inside the block.

        Args:
            kind, name, namespace: the object.
            fields: JSON paths, such as `.status.phase`.

        Yields:
            A queue of (seconds since 1970, the fields with bars between them), one entry for each change.
        """
        # Bars, because kubectl makes spaces of the tabs that a template asks for.
        template = "jsonpath=" + '{"|"}'.join(f"{{{field}}}" for field in fields) + '{"\\n"}'
        changes: queue.Queue[tuple[float, str]] = queue.Queue()
        command = ("-n", namespace, "get", kind, name, "--watch", "-o", template)
        with self._lines(*command, into=lambda line: changes.put((time.time(), line))):
            yield changes

    @contextlib.contextmanager
    def _lines(self, *words: str, into: Any = None) -> Iterator[queue.Queue[str]]:
        """What kubectl writes, line by line, while the block lasts; it is ended with the block."""
        lines: queue.Queue[str] = queue.Queue()
        take = into or lines.put
        process = subprocess.Popen(
            [*map(str, self._kubectl()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stdout = process.stdout
        assert stdout is not None, "asked for above"

        def read() -> None:
            for line in stdout:
                take(line.rstrip("\n"))

        reader = threading.Thread(target=read, name=f"kubectl {words[2]}", daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.terminate()
            process.wait()
            reader.join()
            stdout.close()

    def _kubectl(self) -> list[str | Path]:
        return [binaries.ensure("kubectl"), "--kubeconfig", self.kubeconfig]
