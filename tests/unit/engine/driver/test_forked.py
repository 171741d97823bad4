"""A forked child of a process with a connection to Ray gets an error instead of a call that never returns."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import ray

import workflow
from workflow.errors import WorkflowError


@workflow.step
def one() -> int:
    return 1


CALLS: dict[str, Callable[[], Any]] = {
    "init": lambda: workflow.init("/nowhere"),
    "run": lambda: one.step().run(),
    "run_async": lambda: one.step().run_async("w"),
    "resume": lambda: workflow.resume("w"),
    "resume_async": lambda: workflow.resume_async("w"),
    "resume_all": lambda: workflow.resume_all(),
    "cancel": lambda: workflow.cancel("w"),
    "delete": lambda: workflow.delete("w"),
    "get_output": lambda: workflow.get_output("w"),
    "get_output_async": lambda: workflow.get_output_async("w"),
    "get_status": lambda: workflow.get_status("w"),
    "get_metadata": lambda: workflow.get_metadata("w"),
    "list_all": lambda: workflow.list_all(),
}


def in_forked_child(work: Callable[[], str]) -> str:
    """Return what a function returns in a forked child of this process."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork with threads
        child = os.fork()
    if not child:
        try:
            os.write(writer, work().encode())
        except BaseException:  # noqa: BLE001 - the child must end here, and never continue the test
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


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


def test_child_of_a_process_without_ray_may_use_workflows() -> None:
    def work() -> str:
        from workflow.engine.driver.forked import refuse_after_fork

        refuse_after_fork()
        return "allowed"

    assert not ray.is_initialized()
    assert in_forked_child(work) == "allowed"
    assert sys.modules["workflow.engine.driver.forked"]._fork.connected_parent == 0
