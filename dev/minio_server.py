"""A MinIO server on the loopback device, for tests and benchmarks that need an S3 store."""

from __future__ import annotations

import http.client
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from dev import binaries
from dev.processes import Daemon, free_port

_READY_TIMEOUT_SECONDS: Final = 30.0


class MinioServer:
    """A MinIO server with its own temporary folder, which runs inside the `with` block.

    Its port and its data are kept across `stop()` and `restart()`.

    Attributes:
        port: the port on the loopback device.
        endpoint: `http://127.0.0.1:PORT`.
        access_key: the name of the root user.
        secret_key: the password of the root user.
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
        """Start the server and wait until it is healthy."""
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
        self._daemon.wait(self._is_healthy, _READY_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop the server. Connections to its port are refused until the next start."""
        self._daemon.stop()

    def restart(self) -> None:
        """Stop the server and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/minio/health/cluster")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()
