"""What a worker process undoes after each step: the working directory, the environment variables and the alarm."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workflow.engine.messages import Raised, Returned, RunAddress, StepResult, StepTask
from workflow.engine.worker import execution, run_values
from workflow.engine.worker.process_settings import ProcessSettings
from workflow.engine.worker.run_values import RunValues
from workflow.model.graph import Value
from workflow.store.memory import MemoryStore

TASK = StepTask(RunAddress("memory://", "w", 1, "run"), "a", "m.f", "", Value(b""), (), 1, render=False, written_by="")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of the worker, with two variables and without an alarm."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.delenv("ADDED", raising=False)
    monkeypatch.setattr(run_values, "shared_store", lambda url: MemoryStore())
    yield tmp_path / "worker"
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def executed(monkeypatch: pytest.MonkeyPatch, function: Callable[[], Any]) -> StepResult:
    monkeypatch.setattr(RunValues, "load_inputs", lambda self, task: (function, (), {}))
    return execution.execute(TASK)


def leave_everything() -> None:
    os.chdir("../elsewhere")
    os.environ["ADDED"] = "x"
    os.environ["CHANGED"] = "after"
    del os.environ["KEPT"]
    signal.setitimer(signal.ITIMER_REAL, 600.0)


def settings() -> tuple[str, list[str | None], bool]:
    variables = [os.environ.get(name) for name in ("KEPT", "CHANGED", "ADDED")]
    return Path.cwd().name, variables, signal.getitimer(signal.ITIMER_REAL)[0] > 0


BEFORE = ("worker", ["1", "before", None], False)


def test_changes_of_a_step_that_returned_are_undone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(executed(monkeypatch, leave_everything), Returned)
    assert settings() == BEFORE
    shown = subprocess.run(["sh", "-c", "echo $KEPT$ADDED"], stdout=subprocess.PIPE, check=True).stdout
    assert shown == b"1\n", "child processes have the same variables"


def test_changes_of_a_step_that_raised_are_undone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def function() -> None:
        leave_everything()
        raise ValueError("no")

    assert isinstance(executed(monkeypatch, function), Raised)
    assert settings() == BEFORE


def test_value_is_pickled_before_the_changes_are_undone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def __reduce__(self) -> tuple[Any, ...]:
            return str, (Path.cwd().name,)

    def function() -> Reader:
        leave_everything()
        return Reader()

    result = executed(monkeypatch, function)
    assert isinstance(result, Returned)
    assert b"elsewhere" in (result.value.inline or b"")


def test_variables_that_the_module_of_a_step_sets_stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_inputs(self: RunValues, task: StepTask) -> Any:
        os.environ["ADDED"] = "by the module"
        return (leave_everything, (), {})

    monkeypatch.setattr(RunValues, "load_inputs", load_inputs)
    execution.execute(TASK)
    assert os.environ["ADDED"] == "by the module"


@pytest.mark.parametrize(
    ("imported", "added"),
    [("sqlite3.dump", None), ("workflow.late", None), ("users_library", "x"), ("users_library.late", "x")],
)
def test_variables_stay_if_a_step_imported_a_library(
    here: Path, monkeypatch: pytest.MonkeyPatch, imported: str, added: str | None
) -> None:
    sys.modules.pop(imported, None)

    def function() -> None:
        leave_everything()
        sys.modules[imported] = types.ModuleType(imported)

    executed(monkeypatch, function)
    del sys.modules[imported]
    folder, (*_, variable), has_alarm = settings()
    assert (folder, variable, has_alarm) == ("worker", added, False)


def test_step_that_changes_nothing_keeps_the_alarm_of_the_worker(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.setitimer(signal.ITIMER_REAL, 600.0)
    executed(monkeypatch, lambda: None)
    assert settings() == ("worker", ["1", "before", None], True)


def test_deleted_working_directory_fails_no_step(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    def function() -> None:
        os.chdir("..")
        (here).rmdir()

    assert isinstance(executed(monkeypatch, function), Returned)
    assert "cannot return to the working directory" in caplog.text
    os.chdir("elsewhere")
    Path("../elsewhere").rmdir()
    assert isinstance(executed(monkeypatch, lambda: os.chdir("/")), Returned), "there is no folder to return to"
    os.chdir(here.parent)


def test_settings_cost_less_than_20_microseconds(here: Path) -> None:
    def cost() -> float:
        started = time.thread_time()
        for _ in range(200):
            saved = ProcessSettings()
            saved.save()
            saved.restore()
        return (time.thread_time() - started) / 200

    assert min(cost() for _ in range(20)) < 20e-6
