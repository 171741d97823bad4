"""Code that changes between the epochs of a run: outcomes are kept, and other steps execute the present code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.drivers import Tree, driver
from tests.support.marks import Marks
from workflow.store import Store, open_store

SOURCE = """
import sys

import ray

import workflow
from tests.support.marks import Marks


@workflow.step
def load(marks: Marks) -> int:
    marks.started("load")
    return 20


@workflow.step
def part(marks: Marks, value: int, more: int) -> int:
    marks.started("part")
    return value + more


@workflow.step
def divide(marks: Marks, value: int, by: int) -> object:
    marks.started("divide")
    return part.step(marks, value // by, 1)


def flow(marks: Marks) -> workflow.Workflow[int]:
    return divide.step(marks, load.step(marks), 0)
"""
BUG, FIX = "value // by, 1", "value // (by or 5), 1"
MAIN = """

if __name__ == "__main__":
    storage, folder, address, verb = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    workflow.init(storage)
    if verb == "run":
        print("result", flow(Marks(folder)).run("w"))
    else:
        print("result", ray.get(workflow.resume("w")))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, ModuleType]]:
    """A module of the user with a bug, and its file."""
    path = tmp_path / "code" / "users_flow.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield path, importlib.import_module("users_flow")
    del sys.modules["users_flow"]


@pytest.mark.usefixtures("storage")
def test_resume_runs_the_fixed_function(module: tuple[Path, ModuleType], marks: Marks, store: Store, wid: str) -> None:
    path, users_flow = module
    with pytest.raises(ZeroDivisionError):
        users_flow.flow(marks).run(wid)
    path.write_text(SOURCE.replace(BUG, FIX))
    importlib.invalidate_caches()
    importlib.reload(users_flow)
    assert ray.get(workflow.resume(wid)) == 5
    assert marks.starts() == {"load": 1, "divide": 2, "part": 1}
    invariants.check(store, wid)


@pytest.mark.usefixtures("storage")
def test_resume_keeps_a_function_that_no_module_contains(marks: Marks, wid: str) -> None:
    def stepped(by: int) -> workflow.Workflow[float]:
        def divide(value: int) -> float:
            marks.started("divide")
            return value / by

        return workflow.step(divide).step(10)

    with pytest.raises(ZeroDivisionError):
        stepped(0).run(wid)
    with pytest.raises(ZeroDivisionError):
        ray.get(workflow.resume(wid))
    assert marks.starts() == {"divide": 2}


def test_resume_by_a_fixed_script(ray_outside: tuple[Tree, str], marks: Marks, folder: Path) -> None:
    script = folder.parent / "script.py"
    script.write_text(SOURCE + MAIN)
    _, address = ray_outside
    words = (str(folder), marks.folder, address)
    with driver(script, *words, "run") as first:
        assert first.ended() != 0
        assert "ZeroDivisionError" in first.output()
    script.write_text((SOURCE + MAIN).replace(BUG, FIX))
    with driver(script, *words, "resume") as second:
        assert "result 5" in second.printed("result")
    assert marks.starts() == {"load": 1, "divide": 2, "part": 1}
    invariants.check(open_store(str(folder)), "w")
