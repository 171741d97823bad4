"""Secrets and ConfigMaps as values, API errors, and deferred cleanup."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from typing import Any, Literal

import pytest

from workflow_operator import deferred_cleanup
from workflow_operator.adapters.kube import Resource, error_of_response
from workflow_operator.adapters.references import KubeReferences, files_of, parse_cleanup, secret_values
from workflow_operator.api.base import parse_time
from workflow_operator.core.actions import DeferCleanup, DeleteCheckpoints, EndRun, ReleaseRun, RunRef, StoreRef
from workflow_operator.errors import ConflictError, OperatorError, RefusedError, UnreachableError

RUN = RunRef(StoreRef("s3://b/team", "minio"), "trip", 1, "run-1", "uid-1", 1, "trip")


def test_files_of_config_map_include_binary_data() -> None:
    binary = base64.b64encode(b"\x00\x01").decode()
    assert files_of({"data": {"trip.py": "é"}, "binaryData": {"x.bin": binary}}) == {
        "trip.py": "é".encode(),
        "x.bin": b"\x00\x01",
    }
    assert files_of({}) == {}


def test_secret_values_are_stripped_of_the_line_end() -> None:
    assert secret_values({"data": {"key": base64.b64encode(b"abc\n").decode()}}) == {"key": "abc"}


@pytest.mark.parametrize("what", ["release", "cancel", "delete"])
def test_deferred_cleanup_survives_a_round_trip_through_json(what: Literal["release", "cancel", "delete"]) -> None:
    cleanup = DeferCleanup("team", RUN, what)
    assert parse_cleanup(json.dumps(asdict(cleanup))) == cleanup


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (409, ConflictError),
        (422, RefusedError),
        (403, RefusedError),
        (404, RefusedError),
        (401, UnreachableError),
        (429, UnreachableError),
        (500, UnreachableError),
        (503, UnreachableError),
    ],
)
def test_http_status_selects_the_error_class(status: int, error: type[OperatorError]) -> None:
    raised = error_of_response("GET", "/api", status, '{"message": "because"}')
    assert isinstance(raised, error)
    assert "because" in str(raised)


def test_text_of_a_proxy_error_is_kept() -> None:
    assert "<html>" in str(error_of_response("GET", "/api", 502, "<html>bad gateway</html>"))


class FakePorts:
    """Fakes both ports that a deferred cleanup needs.

    Attributes:
        recorded: the deferred cleanups that are not finished.
        done: the actions that were carried out.
        namespace_gone: whether the namespace of the cleanups no longer exists.
    """

    def __init__(self, *recorded: DeferCleanup, store_unavailable: bool = False) -> None:
        self.recorded = list(recorded)
        self.done: list[object] = []
        self.namespace_gone = False
        self._store_unavailable = store_unavailable

    async def deferred(self) -> list[tuple[dict[str, Any], DeferCleanup]]:
        meta = {"creationTimestamp": "2026-01-01T00:00:00Z"}
        return [({"what": cleanup.what, "metadata": meta}, cleanup) for cleanup in self.recorded]

    async def namespace_terminating(self, namespace: str) -> bool:
        return self.namespace_gone

    async def finish_cleanup(self, config_map: dict[str, Any]) -> None:
        self.recorded = [cleanup for cleanup in self.recorded if cleanup.what != config_map["what"]]

    async def _carry_out(self, namespace: str, action: object) -> None:
        if self._store_unavailable:
            raise UnreachableError("the store does not answer")
        self.done.append(action)

    release = end = delete = _carry_out


async def test_deferred_cleanups_are_carried_out_and_removed() -> None:
    ports = FakePorts(*(DeferCleanup("team", RUN, what) for what in ("release", "cancel", "delete")))
    await deferred_cleanup.finish_all(ports, ports, lambda: CREATED + 60)  # type: ignore[arg-type]
    assert ports.recorded == []
    assert [type(action) for action in ports.done] == [ReleaseRun, EndRun, DeleteCheckpoints]


async def test_failed_cleanup_stays_recorded() -> None:
    ports = FakePorts(DeferCleanup("team", RUN, "delete"), store_unavailable=True)
    await deferred_cleanup.finish_all(ports, ports, lambda: CREATED + 60)  # type: ignore[arg-type]
    assert len(ports.recorded) == 1


CREATED = parse_time("2026-01-01T00:00:00Z")
NO_SECRET = replace(RUN, store=StoreRef("s3://b/team", ""))


@pytest.mark.parametrize(
    ("run", "gone", "age", "kept"),
    [
        pytest.param(RUN, False, 6.9 * 86400, 1, id="may still succeed"),
        pytest.param(RUN, False, 7 * 86400, 0, id="failed for seven days"),
        pytest.param(RUN, True, 60, 0, id="namespace and Secret are gone"),
        pytest.param(NO_SECRET, True, 60, 1, id="needs no Secret of the namespace"),
    ],
)
async def test_cleanup_that_can_never_be_finished_is_given_up(run: RunRef, gone: bool, age: float, kept: int) -> None:
    ports = FakePorts(DeferCleanup("team", run, "cancel"), store_unavailable=True)
    ports.namespace_gone = gone
    await deferred_cleanup.finish_all(ports, ports, lambda: CREATED + age)  # type: ignore[arg-type]
    assert len(ports.recorded) == kept


class FakeKube:
    """An API server with these objects, by their path."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self._objects = objects

    async def get(self, resource: Resource, namespace: str, name: str) -> Any:
        found = self._objects.get(resource.path(namespace, name))
        if isinstance(found, OperatorError):
            raise found
        return found

    async def list(self, resource: Resource, namespace: str, labels: object) -> list[Any]:
        return [value for path, value in self._objects.items() if path.startswith(resource.path(namespace))]


def references(objects: dict[str, Any]) -> KubeReferences:
    return KubeReferences(FakeKube(objects), lambda files: (b"", ""), "home")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "terminating"),
    [
        pytest.param({"metadata": {"name": "team"}}, False, id="active"),
        pytest.param({"metadata": {"name": "team", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, True, id="deleted"),
        pytest.param(None, True, id="gone"),
        pytest.param(RefusedError("403"), False, id="may not be read"),
    ],
)
async def test_namespace_is_terminating_only_on_evidence(found: Any, terminating: bool) -> None:
    assert await references({"/api/v1/namespaces/team": found}).namespace_terminating("team") == terminating


async def test_unreadable_record_hides_no_other() -> None:
    good = {"metadata": {"name": "good"}, "data": {"cleanup": json.dumps(asdict(DeferCleanup("team", RUN, "cancel")))}}
    bad = [{"metadata": {"name": f"bad-{n}"}, "data": data} for n, data in enumerate(({}, {"cleanup": "{"}))]
    objects = {f"/api/v1/namespaces/home/configmaps/{n}": each for n, each in enumerate([*bad, good])}
    assert [found["metadata"]["name"] for found, _ in await references(objects).deferred()] == ["good"]
