"""What the exit code of a submission tells the operator. Needs Ray installed, not running."""

from __future__ import annotations

import pytest

from workflow import entrypoint
from workflow.errors import (
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowError,
    WorkflowInUseError,
)

TOLD = (
    '{"entrypoint": "a:b", "args": {}, "workflowId": "w", "runNumber": 1, "runUuid": "r", "uid": "u", "attempt": 1,'
    ' "store": "s3://bucket", "code": "", "maxResumes": 5, "managerUnresponsiveSeconds": 60, "metadata": {}}'
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(SupersededError("a later attempt"), 3, id="superseded"),
        pytest.param(WorkflowInUseError("another owner"), 4, id="in-use"),
        pytest.param(UnavailableError("the manager is silent"), 5, id="manager-silent"),
        pytest.param(StoreUnavailableError("no answer"), 5, id="store-away"),
        pytest.param(StoreRefusedError("credentials were rotated"), 1, id="store-refused-a-run-may-go-on-later"),
        pytest.param(InvalidInputError("bad input"), 6, id="bad-input"),
    ],
)
def test_an_error_has_its_code(
    error: WorkflowError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(_: entrypoint.Submission) -> int:
        raise error

    monkeypatch.setattr(entrypoint, "_submit", raises)
    assert entrypoint.main([TOLD]) == code
    assert f"{type(error).__name__}: {error}" in capsys.readouterr().err


def test_what_the_operator_did_not_write_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert entrypoint.main(["{}"]) == 6
    assert "not what the operator writes" in capsys.readouterr().err
