"""The MinIO of the release: the marks of started steps, the gates that steps wait at, and restarts of the server."""

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
from tests.e2e.release import RELEASE_NAMESPACE

MARKS = "marks"
SERVICE = "service/rayworkflow-minio"
REGION = "us-east-1"


class Bucket:
    """Connects to MinIO through a port-forward of kubectl, so that the cluster can run anywhere.

    Args:
        kubectl: the cluster.
        storage: the first connection to MinIO. It breaks when the server restarts, and is then replaced.

    Attributes:
        cluster_endpoint: the endpoint URL for pods of the cluster.
        keys: access key and secret key.
    """

    def __init__(self, kubectl: Kubectl, storage: Storage) -> None:
        self.cluster_endpoint = storage.cluster_endpoint
        self.keys = (storage.access_key, storage.secret_key)
        self._kubectl = kubectl
        self._storage = storage
        self._forwards = ExitStack()

    def close(self) -> None:
        """Close the connection."""
        self._forwards.close()

    def client(self) -> Minio:
        """Return a client with a working connection."""
        return self._connected().client

    def store_url(self, path: str) -> str:
        """Return the URL of a store for this process; `path` is bucket and prefix."""
        return f"s3://{path}?endpoint=http://{self._connected().address}&region={REGION}"

    def marks_url(self, namespace: str, name: str) -> str:
        """Return the URL under which the steps of a Workflow write their marks, for pods of the cluster."""
        return f"s3://{MARKS}/{namespace}/{name}?endpoint={self.cluster_endpoint}"

    def marks(self, namespace: str, name: str) -> Counter[str]:
        """Return how many times each step of a Workflow was started."""
        prefix = f"{namespace}/{name}/marks/"
        found = self.client().list_objects(MARKS, prefix=prefix, recursive=True)
        return Counter(str(mark.object_name).removeprefix(prefix).split("/")[0] for mark in found)

    def mark_times(self, namespace: str, name: str, step: str) -> list[float]:
        """Return the times at which a step of a Workflow was started, in seconds since 1970."""
        client = self.client()
        found = client.list_objects(MARKS, prefix=f"{namespace}/{name}/marks/{step}/", recursive=True)
        times = []
        for mark in found:
            response = client.get_object(MARKS, str(mark.object_name))
            times.append(float(response.read()))
            response.close()
            response.release_conn()
        return sorted(times)

    def until_started(self, namespace: str, name: str, step: str, times: int = 1, timeout: float = 60) -> None:
        """Wait until a step was started this many times."""
        assert poll(lambda: self.marks(namespace, name)[step] >= times, timeout), (
            f"{namespace}/{name}: {step} was not started {times} times within {timeout} s: "
            f"{dict(self.marks(namespace, name))}"
        )

    def open_gate(self, namespace: str, name: str, step: str = "gate") -> None:
        """Open the gate that a step waits at."""
        self.client().put_object(MARKS, f"{namespace}/{name}/open/{step}", io.BytesIO(b"open"), 4)

    def restarts(self) -> int:
        """Return how many times the server's container was restarted."""
        pods = self._kubectl.objects("pods", RELEASE_NAMESPACE, "app.kubernetes.io/component=minio")
        return sum(
            container["restartCount"] for pod in pods for container in pod["status"].get("containerStatuses") or ()
        )

    def stop_server(self) -> None:
        """Stop the server's process. The kubelet starts it again with the same data."""
        MinioAdmin(
            endpoint=self._connected().address,
            credentials=StaticProvider(*self.keys),
            secure=False,
            region=REGION,
        ).service_stop()

    def _connected(self) -> Storage:
        assert poll(self._answers_after_reconnect, 60), "MinIO cannot be reached through kubectl port-forward"
        return self._storage

    def _answers_after_reconnect(self) -> bool:
        if self._answers():
            return True
        self._forwards.close()
        with contextlib.suppress(SetupError):  # its pod is not ready
            address = self._forwards.enter_context(self._kubectl.forwarded(RELEASE_NAMESPACE, SERVICE, 9000))
            self._storage = dataclasses.replace(self._storage, address=address)
        return self._answers()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self._storage.address, timeout=5)
        try:
            connection.request("GET", "/minio/health/cluster")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
