"""Secrets, ConfigMaps and debts, as JSON means them."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Literal

import pytest

from workflow_operator import deferred_cleanup
from workflow_operator.adapters.kube import translated
from workflow_operator.adapters.references import files_of, parse_cleanup, secret_values
from workflow_operator.core.actions import DeferCleanup, DeleteCheckpoints, EndRun, ReleaseRun, RunRef, StoreRef
from workflow_operator.errors import ConflictError, OperatorError, RefusedError, UnreachableError

RUN = RunRef(StoreRef("s3://b/team", "minio"), "trip", 1, "run-1", "uid-1", 1, "trip")


def test_files_of_a_config_map() -> None:
    binary = base64.b64encode(b"\x00\x01").decode()
    assert files_of({"data": {"trip.py": "é"}, "binaryData": {"x.bin": binary}}) == {
        "trip.py": "é".encode(),
        "x.bin": b"\x00\x01",
    }
    assert files_of({}) == {}


def test_values_of_a_secret_lose_the_line_end_of_a_file() -> None:
    assert secret_values({"data": {"key": base64.b64encode(b"abc\n").decode()}}) == {"key": "abc"}


@pytest.mark.parametrize("what", ["release", "cancel", "delete"])
def test_a_debt_is_read_as_it_was_noted(what: Literal["release", "cancel", "delete"]) -> None:
    debt = DeferCleanup("team", RUN, what)
    assert parse_cleanup(json.dumps(asdict(debt))) == debt


@pytest.mark.parametrize(
    ("status", "error"),
    [(409, ConflictError), (422, RefusedError), (403, RefusedError), (404, RefusedError), (401, UnreachableError), (429, UnreachableError),
     (500, UnreachableError), (503, UnreachableError)],
)  # fmt: skip
def test_answers_of_the_api_server_are_three_kinds_of_error(status: int, error: type[OperatorError]) -> None:
    made = translated("GET", "/api", status, '{"message": "because"}')
    assert isinstance(made, error)
    assert "because" in str(made)


def test_an_answer_of_a_proxy_is_shown_as_it_is() -> None:
    assert "<html>" in str(translated("GET", "/api", 502, "<html>bad gateway</html>"))


class Ledger:
    """Stands for both ports that a debt needs."""

    def __init__(self, *noted: DeferCleanup, down: bool = False) -> None:
        self.noted = list(noted)
        self.done: list[object] = []
        self._down = down

    async def deferred(self) -> list[tuple[dict[str, str], DeferCleanup]]:
        return [({"what": debt.what}, debt) for debt in self.noted]

    async def finish_cleanup(self, noted: dict[str, str]) -> None:
        self.noted = [debt for debt in self.noted if debt.what != noted["what"]]

    async def _carry_out(self, namespace: str, action: object) -> None:
        if self._down:
            raise UnreachableError("the store is down")
        self.done.append(action)

    release = end = delete = _carry_out


async def test_debts_are_paid_and_struck_out() -> None:
    ledger = Ledger(*(DeferCleanup("team", RUN, what) for what in ("release", "cancel", "delete")))
    await deferred_cleanup.finish_all(ledger, ledger)  # type: ignore[arg-type]
    assert ledger.noted == []
    assert [type(one) for one in ledger.done] == [ReleaseRun, EndRun, DeleteCheckpoints]


async def test_a_debt_that_cannot_be_paid_stays() -> None:
    ledger = Ledger(DeferCleanup("team", RUN, "delete"), down=True)
    await deferred_cleanup.finish_all(ledger, ledger)  # type: ignore[arg-type]
    assert len(ledger.noted) == 1
