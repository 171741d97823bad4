"""`init` refuses invalid arguments, and finds an address in the environment."""

from __future__ import annotations

from typing import Any

import pytest
import ray

import workflow
from workflow import session
from workflow.errors import WrongTypeError


@pytest.mark.parametrize("program", [3, None, b"shop", ["shop"]])
def test_program_must_be_a_name(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda: pytest.fail("it connects to Ray"))
    with pytest.raises(WrongTypeError, match="program must be a name, as a string, not "):
        workflow.init(program=program)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, ""),
        ({"RAYWORKFLOW_STORAGE": "new"}, "new"),
        ({"RAY_WORKFLOW_STORAGE": "as in Ray 1.12"}, "as in Ray 1.12"),
        ({"RAYWORKFLOW_STORAGE": "new", "RAY_WORKFLOW_STORAGE": "as in Ray 1.12"}, "new"),
        ({"RAYWORKFLOW_STORAGE": "", "RAY_WORKFLOW_STORAGE": "as in Ray 1.12"}, "as in Ray 1.12"),
    ],
)
def test_address_in_the_environment(variables: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAYWORKFLOW_STORAGE", "RAY_WORKFLOW_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert session._url_in_environment() == url


@pytest.mark.parametrize("storage", ["nonsense://x", "s3://", "file://host/x"])
def test_invalid_address_is_a_value_error(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="cannot open the store"):
        workflow.init(storage)


def test_object_as_storage_is_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(TypeError, match="storage must be an address or a folder"):
        workflow.init(object())  # type: ignore[arg-type]
