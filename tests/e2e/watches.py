"""A watch of one kind of object in a namespace. If kubectl ends, for example with the API server, it starts again."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dev.kube import Object
from tests.e2e.kubectl import Kubectl, documents

RECONNECT_SECONDS = 0.5


@contextmanager
def watching(kubectl: Kubectl, namespace: str, kind: str, take: Callable[[str, Object], None]) -> Iterator[None]:
    """Watch while the block runs.

    Args:
        kubectl: the cluster.
        namespace: the namespace of the objects.
        kind: their kind, as kubectl accepts it.
        take: receives the type of each event, such as DELETED, and the object. It is called in another thread.
    """
    stopped, starting = threading.Event(), threading.Lock()
    running: list[subprocess.Popen[str]] = []

    def follow() -> None:
        while True:
            with starting:
                if stopped.is_set():
                    return
                watch = kubectl.start("-n", namespace, "get", kind, "-w", "--output-watch-events", "-o", "json")
                running[:] = [watch]
            with watch:
                for event in documents(watch):
                    take(event["type"], event["object"])
            stopped.wait(RECONNECT_SECONDS)

    thread = threading.Thread(target=follow, name=f"watch of {kind} in {namespace}")
    thread.start()
    try:
        yield
    finally:
        with starting:
            stopped.set()
            for watch in running:
                watch.terminate()
        thread.join()
