"""A real MinIO on the loopback device, for tests that need an S3 store.

Called by the contract tests and the benchmark.
"""

from __future__ import annotations

import http.client
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from dev import binaries
from dev.processes import Daemon, free_port

_ANSWERS_WITHIN_SECONDS: Final = 30.0


class MinioServer:
    """A MinIO server with a folder of its own, alive inside the `with` block.

    The port stays the same over `stop()` and `restart()`, and so does the data.

    Attributes:
        endpoint: `http://127.0.0.1:PORT`.
        access_key: the user's name.
        secret_key: the user's password.
    """

    access_key: Final = "rayworkflow"
    secret_key: Final = "rayworkflow-secret"

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._scratch = tempfile.TemporaryDirectory(prefix="rayworkflow-minio-", ignore_cleanup_errors=True)
        self._daemon = Daemon("minio", Path(self._scratch.name))

    def __enter__(self) -> MinioServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._scratch.cleanup()

    def start(self) -> None:
        """Start the server and wait until it serves requests."""
        data = Path(self._scratch.name) / "data"
        data.mkdir(exist_ok=True)
        flags = ["--quiet", "--address", f"127.0.0.1:{self.port}", "--console-address", "127.0.0.1:0"]
        self._daemon.start(
            [binaries.ensure("minio"), "server", *flags, data],
            env={
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
                "MINIO_PROMETHEUS_AUTH_TYPE": "public",
            },
        )
        self._daemon.wait(self._answers, _ANSWERS_WITHIN_SECONDS)

    def stop(self) -> None:
        """Stop the server; requests are refused from now on."""
        self._daemon.stop()

    def restart(self) -> None:
        """Stop the server and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/minio/health/cluster")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()
