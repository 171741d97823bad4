"""A forked child of a process with a connection to Ray gets an error instead of a call that never returns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import ray

import workflow
from tests.support.forks import in_forked_child
from workflow.errors import WorkflowError


@workflow.step
def one() -> int:
    return 1


CALLS: dict[str, Callable[[], Any]] = {
    "init": lambda: workflow.init("/nowhere"),
    "run": lambda: one.step().run(),
    "run_async": lambda: one.step().run_async("w"),
    "resume": lambda: workflow.resume("w"),
    "resume_all": lambda: workflow.resume_all(),
    "cancel": lambda: workflow.cancel("w"),
    "delete": lambda: workflow.delete("w"),
    "get_output": lambda: workflow.get_output("w"),
    "get_status": lambda: workflow.get_status("w"),
    "get_metadata": lambda: workflow.get_metadata("w"),
    "list_all": lambda: workflow.list_all(),
}


def refusals() -> str:
    """Return a line with the error of each call."""
    lines = []
    for name, call in CALLS.items():
        try:
            lines.append(f"{name}: returned {call()!r}")
        except WorkflowError as error:
            lines.append(f"{name}: {error}")
    return "\n".join(lines)


def test_every_call_is_refused_in_a_forked_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    lines = in_forked_child(refusals).splitlines()
    assert [line.partition(":")[0] for line in lines] == list(CALLS)
    for line in lines:
        assert f"it was forked from process {os.getpid()}, and the connection" in line
        assert "multiprocessing.get_context('spawn')" in line


def test_child_of_a_process_without_ray_may_use_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> str:
        from workflow.engine.driver.forked import refuse_after_fork

        refuse_after_fork()
        return "allowed"

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert in_forked_child(work) == "allowed"
    assert sys.modules["workflow.engine.driver.forked"]._fork.connected_parent == 0
