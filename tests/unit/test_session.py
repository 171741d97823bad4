"""`init` refuses a program that is not a name, before it connects to Ray."""

from __future__ import annotations

from typing import Any

import pytest
import ray

import workflow
from workflow.errors import WrongTypeError


@pytest.mark.parametrize("program", [3, None, b"shop", ["shop"]])
def test_program_must_be_a_name(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda: pytest.fail("it connects to Ray"))
    with pytest.raises(WrongTypeError, match="program must be a name, as a string, not "):
        workflow.init(program=program)
