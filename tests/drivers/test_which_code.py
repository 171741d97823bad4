"""Which code a step executes: the rows of the table in docs/steps.md, and classes that keep their identity."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.drivers.modules import shop
from tests.support.drivers import Tree, driver, environment
from tests.support.marks import Marks
from tests.support.tickets import EDITED, PROGRAM

AS_IN_THE_MODULE = (True, "open", {"connected": True})

RIGHT = "result: True True "


def outcome(command: Sequence[str], folder: Path, address: str, script: str = "", **env: str) -> str:
    """Run a program, and return its output."""
    with Tree(command, folder, environment(TEST_RAY_ADDRESS=address, **env), stdin=script) as tree:
        return tree.printed("result:")


Start = Callable[[str, Path], tuple[list[str], str]]
"""Writes a program into a folder; returns the words that start it, and its standard input."""


def as_script(program: str, folder: Path) -> tuple[list[str], str]:
    (folder / "job.py").write_text(program)
    return [sys.executable, "job.py"], ""


def as_module(program: str, folder: Path) -> tuple[list[str], str]:
    (folder / "tickets").mkdir(exist_ok=True)
    (folder / "tickets" / "job.py").write_text(program)
    return [sys.executable, "-m", "tickets.job"], ""


def as_zip(program: str, folder: Path) -> tuple[list[str], str]:
    with zipfile.ZipFile(folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", program)
    return [sys.executable, "app.pyz"], ""


def as_standard_input(program: str, folder: Path) -> tuple[list[str], str]:
    return [sys.executable, "-"], program


def with_uv(program: str, folder: Path) -> tuple[list[str], str]:
    (folder / "job.py").write_text(program)
    return [sys.executable, "-m", "uv", "run", "--no-project", "--offline", "--python", sys.executable, "job.py"], ""


@pytest.mark.parametrize(
    ("start", "code"),
    [
        pytest.param(as_script, "second code", id="script"),
        pytest.param(as_module, "second code", id="python -m"),
        pytest.param(as_zip, "second code", id="zip"),
        pytest.param(with_uv, "second code", id="uv run"),
        pytest.param(as_standard_input, "first code", id="standard input"),
    ],
)
def test_program_that_was_edited_resumes_its_run(
    start: Start, code: str, tmp_path: Path, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    _, address = ray_outside
    fails = tmp_path / "fails"
    fails.touch()
    words = [str(folder), str(fails)]
    command, text = start(PROGRAM, tmp_path)
    assert "result: caught gone" in outcome([*command, *words], tmp_path, address, text)
    fails.unlink()
    command, text = start(EDITED, tmp_path)
    output = outcome([*command, *words, "resume"], tmp_path, address, text)
    assert RIGHT + code in output
    assert ("has changed" if code == "second code" else "may be another program") in output


@pytest.mark.parametrize("packaged", [False, True], ids=["script of the same name", "another package of a Ray job"])
def test_another_program_keeps_the_stored_code(
    packaged: bool, tmp_path: Path, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """A Ray job runs in the folder of its package, whose path changes with its content."""
    _, address = ray_outside
    fails = tmp_path / "fails"
    fails.touch()
    outputs = []
    for name, program, verb in (("one", PROGRAM, "run"), ("two", EDITED, "resume")):
        package = tmp_path / name
        package.mkdir()
        command, _ = as_script(program, package)
        env = {"TEST_WORKING_DIR": str(package)} if packaged else {}
        outputs.append(outcome([*command, str(folder), str(fails), verb], package, address, **env))
        fails.unlink(missing_ok=True)
    assert "caught gone" in outputs[0]
    assert RIGHT + "first code" in outputs[1]
    assert "may be another program" in outputs[1]


HELPER = """
def text():
    return "old"
"""
LAZY = """
import os
import sys

import ray

import workflow
from tests.support.marks import Marks
from tests.support.tickets import EDITED, PROGRAM


@workflow.step
def use():
    import helper

    return helper.text()


if __name__ == "__main__":
    store, folder, workflow_id = sys.argv[1:]
    ray.init(address=os.environ["TEST_RAY_ADDRESS"])
    workflow.init(store)
    print("result:", use.step().run(workflow_id), flush=True)
    Marks(folder).pass_gate(workflow_id)
"""


def test_second_driver_executes_the_helper_as_it_is_now(
    tmp_path: Path, folder: Path, marks: Marks, ray_outside: tuple[Tree, str]
) -> None:
    """The first driver stays open, so that its manager and workers live."""
    _, address = ray_outside
    (tmp_path / "helper.py").write_text(HELPER)
    script = tmp_path / "job.py"
    script.write_text(LAZY)
    with driver(script, str(folder), marks.folder, "first", address=address) as first:
        assert "result: old" in first.printed("result:")
        (tmp_path / "helper.py").write_text(HELPER.replace("old", "new"))
        with driver(script, str(folder), marks.folder, "second", address=address) as second:
            assert "result: new" in second.printed("result:")
        marks.open("first")


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize(
    "composed",
    [
        pytest.param(lambda: shop.of_module.step({}), id="step of a module"),
        pytest.param(lambda: shop.made("label"), id="step within a function"),
        pytest.param(lambda: shop.Shop().of_class.step({}), id="step of a class"),
        pytest.param(lambda: shop.dynamic.step({}), id="step that a step returns"),
        pytest.param(lambda: shop.applies.step(shop.of_module, {}), id="step as an argument"),
    ],
)
def test_step_uses_the_module_and_not_a_copy(composed: Callable[[], Any], wid: str) -> None:
    assert composed().run(wid) == AS_IN_THE_MODULE


@pytest.mark.usefixtures("storage")
def test_copy_is_executed_by_workers_without_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wid: str
) -> None:
    """The workers do not get the paths that a driver adds after `ray.init`."""
    (tmp_path / "only_here.py").write_text(
        "import workflow\n\nRATE = 7\n\ndef helper(x):\n    return RATE * x\n\n\n"
        "@workflow.step\ndef rated(x):\n    return helper(x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    assert only_here.rated.step(6).run(wid) == 42


def test_notebook_cell_that_runs_again(tmp_path: Path, folder: Path, ray_outside: tuple[Tree, str]) -> None:
    _, address = ray_outside
    fails = tmp_path / "fails"
    fails.touch()
    definitions = PROGRAM.partition("def main(")[0]
    cells = [
        definitions,
        f"ray.init(address={address!r}, log_to_driver=False)\nworkflow.init({str(folder)!r})",
        f"fails = {str(fails)!r}\ntry:\n    check.step(issue.step(Color.RED), fails).run('w')\n"
        "except SoldOutError:\n    print('caught')",
        definitions.replace("first code", "second code"),
        "os.remove(fails)\nticket, code = ray.get(workflow.resume('w'))\n"
        "print(isinstance(ticket, Ticket), ticket == Ticket(Color.RED), code)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute(env=environment())
    printed = ["".join(each.get("text", "") for each in cell.outputs) for cell in book.cells]
    assert "caught" in printed[2]
    assert "True True second code" in printed[4]
    assert "has changed" in printed[4]
