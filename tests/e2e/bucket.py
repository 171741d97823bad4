"""The release's MinIO as the tests use it: marks that steps left, gates that they wait at, and its own restart."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
from collections import Counter
from contextlib import ExitStack

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider

from dev.console import SetupError
from dev.processes import poll
from dev.release import Storage
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import HOME

MARKS = "marks"
SERVICE = "service/rayworkflow-minio"
REGION = "us-east-1"


class Bucket:
    """Reaches MinIO through kubectl, so that it works wherever the cluster runs.

    Args:
        kubectl: the cluster.
        found: MinIO as it was reached at first; that ends when its server restarts, and is then reached anew.

    Attributes:
        inside: its address as pods reach it.
    """

    def __init__(self, kubectl: Kubectl, found: Storage) -> None:
        self.inside = found.inside
        self.keys = (found.access_key, found.secret_key)
        self._kubectl = kubectl
        self._found = found
        self._forwards = ExitStack()

    def close(self) -> None:
        """Give its connection back."""
        self._forwards.close()

    def client(self) -> Minio:
        """A client whose connection works now."""
        return self._reached().client

    def store_url(self, path: str) -> str:
        """A store of the library on it, as this process reaches it: `path` is bucket and prefix."""
        return f"s3://{path}?endpoint=http://{self._reached().address}&region={REGION}"

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
        pods = self._kubectl.objects("pods", HOME, "app.kubernetes.io/component=minio")
        return sum(one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses") or ())

    def stop_server(self) -> None:
        """End the server's process; the kubelet starts it again with the same data."""
        MinioAdmin(
            endpoint=self._reached().address,
            credentials=StaticProvider(*self.keys),
            secure=False,
            region=REGION,
        ).service_stop()

    def _reached(self) -> Storage:
        assert poll(self._answers_or_comes_back, 60), "MinIO cannot be reached through kubectl port-forward"
        return self._found

    def _answers_or_comes_back(self) -> bool:
        if self._answers():
            return True
        self._forwards.close()
        with contextlib.suppress(SetupError):  # its pod is not ready
            address = self._forwards.enter_context(self._kubectl.forwarded(HOME, SERVICE, 9000))
            self._found = dataclasses.replace(self._found, address=address)
        return self._answers()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self._found.address, timeout=5)
        try:
            connection.request("GET", "/minio/health/cluster")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
