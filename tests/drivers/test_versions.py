"""Two runs with different versions of one user module on one cluster at the same time: each executes its own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.drivers import Tree, driver
from tests.support.marks import Marks

MODULE = '''
"""Version {version} of a user's module."""
VERSION = {version!r}


def helper():
    return VERSION
'''

MAIN = """
import os
import sys

import ray

RUNTIME_ENV = {{"working_dir": {working_dir!r}}} if {working_dir!r} else None
ray.init(address=os.environ["TEST_RAY_ADDRESS"], runtime_env=RUNTIME_ENV)
if RUNTIME_ENV:
    sys.path.insert(0, {working_dir!r})

import usercode
import workflow
from tests.support.marks import Marks


@workflow.step
def first(marks):
    marks.started(usercode.VERSION)
    marks.pass_gate("both run")
    return usercode.helper()


@workflow.step
def more(version):
    import usercode as here

    return last.step(version, here.helper())


@workflow.step
def last(*versions):
    return [*versions, usercode.helper()]


workflow.init(sys.argv[1])
print("result", more.step(first.step(Marks(sys.argv[2]))).run(), flush=True)
"""


def version(folder: Path, name: str, working_dir: bool) -> Path:
    """Write a folder with a script and a module of the user, and return the path of the script."""
    code = folder / name
    code.mkdir()
    (code / "usercode.py").write_text(MODULE.format(version=name))
    script = folder / f"main_{name}.py" if working_dir else code / "main.py"
    script.write_text(MAIN.format(working_dir=str(code) if working_dir else ""))
    return script


@pytest.mark.parametrize("working_dir", [False, True], ids=["two folders", "two working_dirs"])
def test_each_run_executes_its_own_module_version(
    tmp_path: Path, folder: Path, marks: Marks, ray_outside: tuple[Tree, str], working_dir: bool
) -> None:
    """Both runs are active at the same time, with the module in two folders or in two runtime environments."""
    scripts = [version(tmp_path, name, working_dir) for name in ("red", "blue")]
    address = ray_outside[1]
    with (
        driver(scripts[0], str(folder), marks.folder, address=address) as red,
        driver(scripts[1], str(folder), marks.folder, address=address) as blue,
    ):
        for name in ("red", "blue"):
            marks.wait_started(name, timeout=180)
        marks.open("both run")
        assert "result ['red', 'red', 'red']" in red.printed("result")
        assert "result ['blue', 'blue', 'blue']" in blue.printed("result")
