"""The release's MinIO as the tests use it: marks that steps left, gates that they wait at, and its own restart."""

from __future__ import annotations

import http.client
import io
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider

from dev.processes import poll
from tests.e2e.kubectl import Kubectl

MARKS = "marks"
CHECKPOINTS = "workflows"
"""Where the release keeps what it is told nothing else about."""

REGION = "us-east-1"


class Bucket:
    """Reaches MinIO through kubectl, so that it works wherever the cluster runs; inside `reached()`.

    Args:
        kubectl: the cluster.
        namespace, service: where MinIO is.
        keys: access key and secret key.

    Attributes:
        inside: its address as pods reach it.
    """

    def __init__(self, kubectl: Kubectl, namespace: str, service: str, keys: tuple[str, str]) -> None:
        self.inside = f"http://{service}.{namespace}.svc:9000"
        self.keys = keys
        self._kubectl = kubectl
        self._namespace = namespace
        self._where = ("-n", namespace, "port-forward", f"service/{service}")
        self._port = 0
        self._forward: subprocess.Popen[str] | None = None

    @contextmanager
    def reached(self) -> Iterator[Bucket]:
        """Reach it for the length of the block."""
        try:
            for bucket in (MARKS, CHECKPOINTS):
                if not self.client().bucket_exists(bucket):
                    self.client().make_bucket(bucket)
            yield self
        finally:
            self._close()

    def client(self) -> Minio:
        """A client whose connection works now."""
        access, secret = self.keys
        return Minio(self._address(), access_key=access, secret_key=secret, secure=False, region=REGION)

    def store_url(self, path: str) -> str:
        """A store of the library on it, as this process reaches it: `path` is bucket and prefix."""
        return f"s3://{path}?endpoint=http://{self._address()}&region={REGION}"

    def place(self, namespace: str, name: str) -> str:
        """Where a Workflow's steps leave their marks, as they reach it."""
        return f"s3://{MARKS}/{namespace}/{name}?endpoint={self.inside}"

    def marks(self, namespace: str, name: str) -> Counter[str]:
        """How often each step of a Workflow was started."""
        prefix = f"{namespace}/{name}/marks/"
        found = self.client().list_objects(MARKS, prefix=prefix, recursive=True)
        return Counter(str(one.object_name).removeprefix(prefix).split("/")[0] for one in found)

    def mark_times(self, namespace: str, name: str, step: str) -> list[float]:
        """When a step of a Workflow was started, in seconds since 1970."""
        client = self.client()
        found = client.list_objects(MARKS, prefix=f"{namespace}/{name}/marks/{step}/", recursive=True)
        times = []
        for one in found:
            response = client.get_object(MARKS, str(one.object_name))
            times.append(float(response.read()))
            response.close()
            response.release_conn()
        return sorted(times)

    def until_started(self, namespace: str, name: str, step: str, times: int = 1, timeout: float = 60) -> None:
        """Wait until a step was started this often."""
        assert poll(lambda: self.marks(namespace, name)[step] >= times, timeout), (
            f"{namespace}/{name}: {step} was not started {times} times within {timeout} s: "
            f"{dict(self.marks(namespace, name))}"
        )

    def open_gate(self, namespace: str, name: str, step: str = "gate") -> None:
        """Let a step end."""
        self.client().put_object(MARKS, f"{namespace}/{name}/open/{step}", io.BytesIO(b"open"), 4)

    def restarts(self) -> int:
        """How often the server's process was started again."""
        pods = self._kubectl.find("pods", self._namespace, "app.kubernetes.io/component=minio")
        return sum(one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses") or ())

    def stop_server(self) -> None:
        """End the server's process; the kubelet starts it again with the same data."""
        access, secret = self.keys
        keys = StaticProvider(access, secret)
        MinioAdmin(endpoint=self._address(), credentials=keys, secure=False, region=REGION).service_stop()

    def _address(self) -> str:
        if self._forward is None or self._forward.poll() is not None or not self._answers():
            self._open()
        return f"127.0.0.1:{self._port}"

    def _open(self) -> None:
        """Forward a free port, again and again while the server is not there."""

        def opened() -> bool:
            self._close()
            self._forward = self._kubectl.start(*self._where, ":9000")
            assert self._forward.stdout is not None
            line = self._forward.stdout.readline()  # Forwarding from 127.0.0.1:41234 -> 9000
            if "127.0.0.1:" not in line:
                return False
            self._port = int(line.partition("127.0.0.1:")[2].split()[0])
            return self._answers()

        assert poll(opened, 60), "MinIO cannot be reached through kubectl port-forward"

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/minio/health/cluster")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _close(self) -> None:
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait()
            if self._forward.stdout:
                self._forward.stdout.close()
            self._forward = None
