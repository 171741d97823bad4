"""Access to a cluster for the demo and the end-to-end tests: kubectl, helm and forwarded ports."""

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
_FORWARD_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Kube:
    """A Kubernetes cluster.

    Attributes:
        kubeconfig: the path of an administrator's kubeconfig.
    """

    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl and wait until it exits.

        Returns:
            The standard output of kubectl.

        Raises:
            SetupError: kubectl failed. The message contains its output.
        """
        return run([*self._kubectl(), *words], stdin=stdin)

    def helm(self, *words: str | Path, stdin: str | None = None) -> str:
        """Run helm and wait until it exits. Returns and raises the same as `kubectl`."""
        return run([binaries.ensure("helm"), "--kubeconfig", self.kubeconfig, *words], stdin=stdin)

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None if it does not exist."""
        scope = ("-n", namespace) if namespace else ()
        text = self.kubectl(*scope, "get", kind, name, "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def objects(self, kind: str, namespace: str, labels: str = "") -> list[Object]:
        """Return the objects of a namespace that match a label selector such as `a=b,c=d`."""
        selector = ("-l", labels) if labels else ()
        items: list[Object] = json.loads(self.kubectl("-n", namespace, "get", kind, *selector, "-o", "json"))["items"]
        return items

    def apply(self, *objects: Object) -> None:
        """Apply objects on the server side."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(listed))

    @contextlib.contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """Forward a local port to a pod or service while the block runs.

        Args:
            namespace: the namespace of the target.
            target: `service/NAME` or `pod/NAME`.
            port: the port of the target.

        Yields:
            The local address, `127.0.0.1:PORT`.

        Raises:
            SetupError: kubectl could not forward the port.
        """
        remedy = f"check the target with `kubectl -n {namespace} get {target.partition('/')[0]}`"
        with self._lines("-n", namespace, "port-forward", target, f":{port}") as lines:
            try:
                first_line = lines.get(timeout=_FORWARD_TIMEOUT_SECONDS)
            except queue.Empty:
                raise SetupError(
                    f"cannot forward port {port} of {target} in namespace {namespace}: "
                    f"no output within {_FORWARD_TIMEOUT_SECONDS:.0f} s; {remedy}"
                ) from None
            address = re.search(r"127\.0\.0\.1:\d+", first_line)
            if address is None:
                raise SetupError(
                    f"cannot forward port {port} of {target} in namespace {namespace}: {first_line}; {remedy}"
                )
            yield address[0]

    @contextlib.contextmanager
    def watched(self, kind: str, name: str, namespace: str, *fields: str) -> Iterator[queue.Queue[tuple[float, str]]]:
        """Watch fields of an object while the block runs.

        Args:
            kind: the kind of the object, as kubectl accepts it.
            name: the name of the object.
            namespace: the namespace of the object.
            fields: JSON paths, such as `.status.phase`.

        Yields:
            A queue with one entry per change: the Unix time in seconds, and the fields separated by `|`.
        """
        # The separator is `|`, because kubectl converts tabs in a template to spaces.
        template = "jsonpath=" + '{"|"}'.join(f"{{{field}}}" for field in fields) + '{"\\n"}'
        changes: queue.Queue[tuple[float, str]] = queue.Queue()
        command = ("-n", namespace, "get", kind, name, "--watch", "-o", template)
        with self._lines(*command, into=lambda line: changes.put((time.time(), line))):
            yield changes

    @contextlib.contextmanager
    def _lines(self, *words: str, into: Any = None) -> Iterator[queue.Queue[str]]:
        """Run kubectl in the background while the block runs, and pass on each line of its output.

        Args:
            words: the arguments of kubectl.
            into: receives each line; None puts the lines into the queue that this function yields.
        """
        lines: queue.Queue[str] = queue.Queue()
        handle_line = into or lines.put
        process = subprocess.Popen(
            [*map(str, self._kubectl()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stdout = process.stdout
        assert stdout is not None, "Popen was called with stdout=PIPE"

        def read() -> None:
            for line in stdout:
                handle_line(line.rstrip("\n"))

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
