"""Secrets and ConfigMaps as values, API errors, and deferred cleanup."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Literal

import pytest

from workflow_operator import deferred_cleanup
from workflow_operator.adapters.kube import error_of_response
from workflow_operator.adapters.references import files_of, parse_cleanup, secret_values
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
    """

    def __init__(self, *recorded: DeferCleanup, store_unavailable: bool = False) -> None:
        self.recorded = list(recorded)
        self.done: list[object] = []
        self._store_unavailable = store_unavailable

    async def deferred(self) -> list[tuple[dict[str, str], DeferCleanup]]:
        return [({"what": cleanup.what}, cleanup) for cleanup in self.recorded]

    async def finish_cleanup(self, config_map: dict[str, str]) -> None:
        self.recorded = [cleanup for cleanup in self.recorded if cleanup.what != config_map["what"]]

    async def _carry_out(self, namespace: str, action: object) -> None:
        if self._store_unavailable:
            raise UnreachableError("the store does not answer")
        self.done.append(action)

    release = end = delete = _carry_out


async def test_deferred_cleanups_are_carried_out_and_removed() -> None:
    ports = FakePorts(*(DeferCleanup("team", RUN, what) for what in ("release", "cancel", "delete")))
    await deferred_cleanup.finish_all(ports, ports)  # type: ignore[arg-type]
    assert ports.recorded == []
    assert [type(action) for action in ports.done] == [ReleaseRun, EndRun, DeleteCheckpoints]


async def test_failed_cleanup_stays_recorded() -> None:
    ports = FakePorts(DeferCleanup("team", RUN, "delete"), store_unavailable=True)
    await deferred_cleanup.finish_all(ports, ports)  # type: ignore[arg-type]
    assert len(ports.recorded) == 1
