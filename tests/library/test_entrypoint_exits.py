"""Exit codes of a submission, by the error that ends it. Ray must be installed, but does not run."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support import runs
from workflow import entrypoint
from workflow.engine.driver.client import Client
from workflow.errors import (
    CorruptLogError,
    EntrypointError,
    InvalidInputError,
    OwnerLostError,
    StoreRefusedError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowError,
    WorkflowInUseError,
)
from workflow.log import registry
from workflow.log.run_log import RunLog
from workflow.model.records import StatusChanged
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.store.memory import MemoryStore
from workflow.submission import ExitCode, Submission

SUBMISSION = Submission("a:b", "", "w", 1, "r", "u", 1, "s3://bucket", "", 5, 60, {})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(SupersededError("a later attempt"), ExitCode.SUPERSEDED, id="superseded"),
        pytest.param(WorkflowInUseError("another owner"), ExitCode.IN_USE, id="in-use"),
        pytest.param(UnavailableError("no response"), ExitCode.MANAGER_UNRESPONSIVE, id="manager-unresponsive"),
        pytest.param(StoreUnavailableError("no response"), ExitCode.MANAGER_UNRESPONSIVE, id="store-unavailable"),
        pytest.param(StoreRefusedError("key expired"), ExitCode.STORE_REFUSED, id="store-refused-may-be-corrected"),
        pytest.param(WorkflowConflictError("another DAG"), ExitCode.CONFLICT, id="conflict"),
        pytest.param(OwnerLostError("no owner"), ExitCode.MANAGER_UNRESPONSIVE, id="owner-lost-is-no-conflict"),
        pytest.param(InvalidInputError("bad input"), ExitCode.BAD_INPUT, id="bad-input"),
        pytest.param(CorruptLogError("no blob"), ExitCode.CHECKPOINTS_UNREADABLE, id="checkpoints-unreadable"),
    ],
)
def test_error_determines_the_exit_code(
    error: WorkflowError, code: ExitCode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(_: Submission) -> ExitCode:
        raise error

    monkeypatch.setattr(entrypoint, "_execute", raises)
    assert entrypoint.main([SUBMISSION.to_json()]) is code
    assert f"{type(error).__name__}: {error}" in capsys.readouterr().err


def test_malformed_submission_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert entrypoint.main(["{}"]) is ExitCode.BAD_INPUT
    assert "cannot read the submission" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["{}", "{}"]], ids=["none", "two"])
def test_wrong_number_of_arguments_is_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entrypoint.main(arguments) is ExitCode.BAD_INPUT
    assert "usage: python -m workflow.entrypoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(EntrypointError("no module 'a'"), "EntrypointInvalid", id="entrypoint"),
        pytest.param(WorkflowConflictError("another DAG"), "WorkflowConflict", id="conflict"),
    ],
)
def test_refusal_is_recorded_with_a_reason_that_is_no_class_name(error: WorkflowError, reason: str) -> None:
    store = MemoryStore()
    assert entrypoint._refuse(store, SUBMISSION, error) is ExitCode.FINISHED
    view = read_run(store, "w", 1)
    assert view is not None
    assert (view.status, view.reason) == ("FAILED", reason)
    assert view.error is not None
    assert view.error.message == str(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(EntrypointError("no module 'a'"), ExitCode.BAD_INPUT, id="entrypoint"),
        pytest.param(WorkflowConflictError("another DAG"), ExitCode.CONFLICT, id="conflict"),
    ],
)
@pytest.mark.parametrize("owner", ["u", "other"])
@pytest.mark.parametrize("released", [False, True])
def test_refusal_never_ends_a_run_that_exists(error: WorkflowError, code: ExitCode, owner: str, released: bool) -> None:
    store = MemoryStore()
    created = runs.created(runs.graph("a b:a"), owner=Owner("manager", "1", uid=owner, attempt=1))
    registry.register(store, created)
    if released:
        runs.append(RunLog(store, created), [StatusChanged(WorkflowStatus.RESUMABLE, 1, 1.0, "Released")])
    before = read_run(store, "w", 1)
    assert entrypoint._refuse(store, SUBMISSION, error) is code
    assert read_run(store, "w", 1) == before


def test_every_exit_code_is_returned_for_some_case() -> None:
    by_error = {code for _, code in entrypoint.EXIT_CODES}
    assert by_error | {ExitCode.FINISHED, ExitCode.CRASHED} == set(ExitCode)


def test_run_that_was_read_before_is_not_created_again() -> None:
    """The store lost it. A new run under its number would repeat all its steps."""
    store = MemoryStore()
    again = dataclasses.replace(SUBMISSION, run_exists=True)
    with pytest.raises(CorruptLogError, match="the store lost it") as lost:
        entrypoint._attach_or_create(Client(store), store, again)
    assert getattr(lost.value, "missing", False)
    assert not list(store.list(""))
