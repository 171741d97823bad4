"""Entrypoints of Workflow resources, and what each error names to change. Ray must be installed, but does not run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workflow.errors import EntrypointError
from workflow.loading import load

CODE = """
from __future__ import annotations
from workflow import step

@step
def one(city: str = "OAK"):
    return city

def make(city: str, nights: int = 1):
    return one.step(city)

def raises():
    return {}["missing"]

def forgets():
    one.step()

composed = one.step("SAN")
number = 7

def __getattr__(name):
    if name == "lazy":
        raise ImportError("needs a package")
    raise AttributeError(name)
"""
REFUSALS = [
    ("nowhere:one", {}, "there is no module 'nowhere'; put nowhere.py into the code"),
    ("trip_code.inner:one", {}, "'trip_code.inner'"),
    ("trip_code:once", {}, "'trip_code' has no 'once'; it has:"),
    ("trip_code:make", {"town": "SAN"}, "spec.args ['town'] do not fit trip_code:make(city, nights=1)"),
    ("trip_code:make", {}, "missing a required argument: 'city'"),
    ("trip_code:one", {"town": "SAN"}, "spec.args ['town'] do not fit trip_code:one(city='OAK')"),
    ("trip_code:composed", {"city": "SAN"}, "a composed Workflow, which takes none"),
    ("trip_code:number", {}, "is a int; it must be a step"),
    ("trip_code:number.once", {}, "'int' has no 'once'; it has: nothing"),
    ("trip_code:lazy", {}, "reading 'lazy' raised ImportError: needs a package; correct the code"),
    ("trip_code:raises", {}, "raised KeyError: 'missing'"),
    ("trip_code:forgets", {}, "returned a NoneType"),
    ("builtins:abs", {"x": 1}, "spec.args ['x'] do not fit builtins:abs"),
    ("builtins:dict", {}, "has no signature that Python can read"),
    ("trip_broken:one", {}, "syntax error in trip_broken.py, line 1"),
    ("trip_needy:one", {}, "needs the module 'not_installed', which is not installed; add it to spec.runtimeEnv.pip"),
    ("trip_angry:one", {}, "importing 'trip_angry' raised RuntimeError: no luck"),
]


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "trip_code": CODE,
        "trip_broken": "def one(:\n",
        "trip_needy": "import not_installed\n",
        "trip_angry": "raise RuntimeError('no luck')\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(("entrypoint", "args"), [("trip_code:one", {}), ("trip_code:make", {"city": "SAN"})])
def test_step_and_function_receive_the_args(entrypoint: str, args: dict[str, str]) -> None:
    assert load(entrypoint, args).qualname == "trip_code.one"


def test_composed_workflow_is_loaded_unchanged() -> None:
    assert load("trip_code:composed", {}).qualname == "trip_code.one"


@pytest.mark.parametrize(
    ("entrypoint", "args", "words"), REFUSALS, ids=[f"{entrypoint} {args}" for entrypoint, args, _ in REFUSALS]
)
def test_error_names_what_to_change(entrypoint: str, args: dict[str, object], words: str) -> None:
    with pytest.raises(EntrypointError) as refusal:
        load(entrypoint, args)
    assert words in str(refusal.value)
