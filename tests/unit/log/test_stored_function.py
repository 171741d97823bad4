"""Which code a worker executes for a stored function: the module's own, the copy, or none with an error that helps."""

from __future__ import annotations

import functools
import json
import operator
import os
import pickle
import re
import sys
import threading
import types
from typing import Any, NamedTuple

import pytest

import workflow
from tests.support import user_modules
from tests.support.code_cases import WRAPPING
from workflow.event_listener import Poll, TimerListener
from workflow.log import stored_function, values
from workflow.log.code_digest import PYTHON, digest
from workflow.log.pickler import stored_form
from workflow.log.stored_function import LARGEST_COPY, StoredFunction, main_source, origin


class Case(NamedTuple):
    """A function of a module that a driver stores, and a worker loads and calls.

    Attributes:
        driver: source of the module in the driver.
        worker: source of the module in the worker; None if the worker does not have it.
        result: what `call` returns in the worker; an Exception if the function cannot be loaded.
        notice: regular expression for the notice or the text of the error; empty for no notice.
        call: expression with the loaded function `f` and the worker's modules `sys.modules`.
        stored: expression with the driver's module `m` for what is stored.
        then: expression that changes the stored form `s` in the worker.
    """

    driver: str
    worker: str | None
    result: Any
    notice: str = ""
    call: str = "f()"
    stored: str = "m.f"
    then: str = "s"


PLAIN = "def f(): return 1"
LOCKED = "import threading\nLOCK = threading.Lock()\ndef f():\n    with LOCK: return {}"
LOCKED_INSIDE = """
    import threading
    LOCK = threading.Lock()
    def make():
        def g(): return LOCK.locked()
        return g
    f = make()
"""
HELPED = "def g(): return {}\ndef f(): return g()"
LARGE = f"DATA = bytes({LARGEST_COPY})\ndef f(): return len(DATA) + {{}}"
STATEFUL = "seen = []\ndef f():\n    seen.append(1)\n    return len(seen)"
RECURSIVE = """
    import workflow
    @workflow.step
    def f(n): return f.step(n - 1) if n else {}
"""
MUTUAL = """
    import workflow
    @workflow.step
    def f(n): return g.step(n - 1) if n else {}
    @workflow.step
    def g(n): return f.step(n - 1) if n else {}
"""
CLOSURE = """
    import workflow
    def make(number):
        @workflow.step
        def inner(n): return inner.step(n - 1) if n else number + {}
        return inner
    f = make(10)
"""
CLASSES = """
    import enum
    class Color(enum.Enum):
        RED = 1
    class Base:
        def m(self): return {}
    class Derived(Base):
        color = Color.RED
        def m(self): return super().m(), self.color is Color.RED
    def f(): return Derived().m()
"""
WRAPPED = """
    import workflow
    from wrapping import wrapped
    def helper(): return {}
    @workflow.step
    @wrapped(7)
    def f(): return helper()
"""
METHOD = """
    import workflow
    class C:
        @workflow.step
        def m(self): return {}, self is not None
    f = C().m
"""
PARTIAL = "import functools\ndef g(x, y): return x, y, {}\nf = functools.partial(g, 1, y=2)"
NESTED_STEP = """
    import workflow
    @workflow.step
    def g(): return {}
    @workflow.step
    def f(): return g.step()
"""

FOLLOW = "follow(f(3))"
"""Executes the steps that a dynamic step returns."""

MISSING = r"module 'case_\d+' cannot be imported here \(ModuleNotFoundError: .*; the copy of case_\d+\.f .* is executed"
DIFFERS = r"module 'case_\d+' differs from .*; the copy of case_\d+\.\w+ that is stored with the run is executed"
PRESENT = r"module 'case_\d+' differs from .*; the present code of case_\d+\.f is executed, because "
REMEDY = r"provide 'case_\d+' to the workers: .*working_dir.*py_modules.*image"

CASES = {
    "same module": Case(PLAIN, PLAIN, 1),
    "module with other comments": Case(PLAIN, f"# text\n\n{PLAIN}  # text", 1),
    "module with state": Case(STATEFUL, STATEFUL, [1, 2, 2], "", "[f(), f(), len(sys.modules[name].seen)]"),
    "module with a lock": Case(LOCKED.format(1), LOCKED.format(1), 1),
    "module with much data": Case(LARGE.format(0), LARGE.format(0), LARGEST_COPY),
    "missing module": Case(PLAIN, None, 1, MISSING),
    "missing module with state": Case(STATEFUL, None, [1, 2], MISSING, "[f(), f()]"),
    "other code": Case(PLAIN, "def f(): return 2", 1, DIFFERS),
    "other helper": Case(HELPED.format(1), HELPED.format(2), 1, DIFFERS),
    "other constant": Case("N = {1}\ndef f(): return list(N)", "N = {2}\ndef f(): return list(N)", [1], DIFFERS),
    "function without its name": Case(PLAIN, "def g(): return 1", 1, DIFFERS),
    "function that is another object": Case(PLAIN, "f = len", 1, DIFFERS),
    "step that is another object": Case(
        "import workflow\n@workflow.step\ndef f(): return 1", "import workflow\nf = workflow.step(len)", 1, DIFFERS
    ),
    "import that raises": Case(PLAIN, "1 / 0", 1, r"cannot be imported here \(ZeroDivisionError: .*; the copy"),
    "import with a syntax error": Case(PLAIN, "def", 1, r"cannot be imported here \(SyntaxError: .*; the copy"),
    "import that exits": Case(
        PLAIN, "raise SystemExit(2)", 1, r"\(ImportError: module .* exits with 2 when it is imported\); the copy"
    ),
    "missing module with a lock": Case(
        LOCKED.format(1), None, Exception, rf"cannot load function case_\d+\.f: .*lock.*{REMEDY}"
    ),
    "missing module with much data": Case(
        LARGE.format(0), None, Exception, rf"cannot load function case_\d+\.f: .* bytes of globals.*{REMEDY}"
    ),
    "other code with a lock": Case(LOCKED.format(1), LOCKED.format(2), 2, rf"{PRESENT}.*lock"),
    "other code with much data": Case(LARGE.format(0), LARGE.format(1), LARGEST_COPY + 1, rf"{PRESENT}the copy would"),
    "same module, other Python": Case(
        PLAIN, PLAIN, 1, r"started with Python 3\.1, .*; the present code .* cannot execute the copy",
        then="dataclasses.replace(s, python='3.1')",
    ),
    "missing module, other Python": Case(
        PLAIN, None, Exception, rf"cannot load .*cannot execute the copy, which Python 3\.1 made\); {REMEDY}",
        then="dataclasses.replace(s, python='3.1')",
    ),
    "recursive step": Case(RECURSIVE.format(1), RECURSIVE.format(1), 1, call=FOLLOW),
    "recursive step, missing": Case(RECURSIVE.format(1), None, 1, MISSING, FOLLOW),
    "recursive step, differs": Case(RECURSIVE.format(1), RECURSIVE.format(2), 1, DIFFERS, FOLLOW),
    "mutual steps": Case(MUTUAL.format(1, 2), MUTUAL.format(1, 2), 2, call=FOLLOW),
    "mutual steps, missing": Case(MUTUAL.format(1, 2), None, 2, MISSING, FOLLOW),
    "mutual steps, differ": Case(MUTUAL.format(1, 2), MUTUAL.format(1, 3), 2, DIFFERS, FOLLOW),
    "step in its own closure": Case(CLOSURE.format(1), CLOSURE.format(1), 11, call=FOLLOW),
    "step in its own closure, missing": Case(
        CLOSURE.format(1), None, 11, r"cannot be imported .*; the copy of case_\d+\.make\.<locals>\.inner", FOLLOW
    ),
    "step in its own closure, removed": Case(CLOSURE.format(1), "", 11, call=FOLLOW),
    "classes": Case(CLASSES.format(1), CLASSES.format(1), [1, True]),
    "classes, missing": Case(CLASSES.format(1), None, [1, True], MISSING),
    "classes, differ": Case(
        CLASSES.format(1), CLASSES.format(2), [2, True], rf"{DIFFERS}, with the classes of the module that is here"
    ),
    "step in a decorator": Case(WRAPPED.format(1), WRAPPED.format(1), [7, 1]),
    "step in a decorator, missing": Case(WRAPPED.format(1), None, [7, 1], MISSING),
    "step in a decorator, differs": Case(WRAPPED.format(1), WRAPPED.format(2), [7, 1], DIFFERS),
    "method": Case(METHOD.format(1), METHOD.format(1), [1, True]),
    "method, missing": Case(METHOD.format(1), None, [1, True], r"cannot be imported .*; the copy of case_\d+\.C\.m"),
    "function of a class": Case(METHOD.format(1), METHOD.format(1), [1, True], "", "f(1)", "m.C.m"),
    "function of a class, differs": Case(
        METHOD.format(1), METHOD.format(2), [1, True], r"differs.*; the copy of case_\d+\.C\.m", "f(1)", "m.C.m"
    ),
    "partial": Case(PARTIAL.format(3), PARTIAL.format(3), [1, 2, 3]),
    "partial, missing": Case(PARTIAL.format(3), None, [1, 2, 3], r"cannot be imported .*; the copy of case_\d+\.g"),
    "partial, differs": Case(PARTIAL.format(3), PARTIAL.format(4), [1, 2, 3], DIFFERS),
    "step that a step refers to": Case(NESTED_STEP.format(1), NESTED_STEP.format(1), 1, call="follow(f())"),
    "step that a step refers to, missing": Case(NESTED_STEP.format(1), None, 1, MISSING, "follow(f())"),
    "step that a step refers to, differs": Case(
        NESTED_STEP.format(1), NESTED_STEP.format(2), 1, DIFFERS, "follow(f())"
    ),
    "function inside a function": Case(
        LOCKED_INSIDE, LOCKED_INSIDE, False
    ),
    "lambda": Case("N = 1\nf = lambda: N", "N = 1\nf = None", 1),
    "lambda, missing": Case("N = 1\nf = lambda: N", None, 1, r"cannot be imported .*; the copy of case_\d+\.<lambda>"),
    "lambda, other constant": Case("N = 1\nf = lambda: N", "N = 2\nf = None", 1, r"differs .*; the copy"),
}  # fmt: skip

DRIVER = """
    import importlib, json, sys
    from workflow.log.code_digest import innermost, is_step
    from workflow.log.pickler import dumps, stored_form
    folder = sys.argv[1]
    for index, stored in json.loads(sys.argv[2]):
        m = importlib.import_module(f"case_{index}")
        found = eval(stored)
        form = stored_form(found.function if is_step(found) else found, lambda obj: None)
        data = dumps(form, lambda obj: None)
        with open(f"{folder}/{index}", "wb") as out:
            out.write(data if isinstance(data, bytes) else b"".join(data))
    print("null")
"""

WORKER = """
    import dataclasses, json, sys, traceback
    from workflow.errors import InvalidInputError
    from workflow.log import values
    def follow(found):
        while hasattr(found, "function"):
            found = found.function(*found.args)
        return found
    def resolve(kind, name): raise AssertionError
    folder = sys.argv[1]
    found = {}
    for index, call, then in json.loads(sys.argv[2]):
        name = f"case_{index}"
        s = values.loads(open(f"{folder}/{index}", "rb").read(), resolve)
        try:
            loaded = values.load_function(eval(then), resolve)
            f = loaded.function
            found[index] = [eval(call), loaded.notice]
        except InvalidInputError as error:
            found[index] = ["error", str(error)]
        except BaseException as error:
            found[index] = ["raised", traceback.format_exc()]
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What a worker did with each case, by its index: the result and the notice."""
    folder = tmp_path_factory.mktemp("functions")
    driver = {f"case_{index}": case.driver for index, case in enumerate(CASES.values())}
    worker = {f"case_{index}": case.worker for index, case in enumerate(CASES.values()) if case.worker is not None}
    user_modules.write(folder / "driver", {**driver, "wrapping": WRAPPING})
    user_modules.write(folder / "worker", {**worker, "wrapping": WRAPPING})
    stored = [(index, case.stored) for index, case in enumerate(CASES.values())]
    user_modules.in_process(DRIVER, folder / "driver", str(folder), json.dumps(stored))
    calls = [(index, case.call, case.then) for index, case in enumerate(CASES.values())]
    results: dict[str, list[Any]] = user_modules.in_process(WORKER, folder / "worker", str(folder), json.dumps(calls))
    return results


@pytest.mark.parametrize("name", CASES)
def test_worker_executes_the_right_code(name: str, found: dict[str, list[Any]]) -> None:
    case = CASES[name]
    result, notice = found[str(list(CASES).index(name))]
    assert result == ("error" if case.result is Exception else case.result)
    if case.notice:
        assert re.search(case.notice, notice), notice
    else:
        assert notice == ""


def keep(obj: Any) -> None:
    """Replaces nothing."""


def resolve(kind: str, name: str) -> Any:
    raise AssertionError(f"no mark was expected: {kind} {name}")


def stored(function: Any) -> StoredFunction:
    form = stored_form(function, keep)
    assert form is not None
    return form


def plain() -> int:
    return 1


class Adder:
    def __call__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "function",
    [len, operator.itemgetter(0), functools.partial(len), Adder(), Poll(TimerListener), workflow.sleep],
    ids=["C function", "C object", "partial of a C function", "object", "listener", "function of the library"],
)
def test_function_without_code_of_the_user_is_a_plain_value(function: Any) -> None:
    assert stored_form(function, keep) is None


def test_stored_form_describes_the_function() -> None:
    form = stored(functools.partial(plain))
    assert (form.module, form.qualname, form.python, form.no_copy) == (__name__, "plain", PYTHON, "")
    assert (form.digest, form.source) == (digest(plain), os.path.realpath(__file__))
    assert pickle.loads(pickle.dumps(form)) == form


def test_copy_that_is_stored_again_remembers_its_original() -> None:
    form = stored(plain)
    assert form.copy is not None
    copied = values.loads(form.copy, resolve)
    assert copied is not plain
    assert origin(copied) == (form.digest, form.source)
    again = stored(copied)
    assert (again.digest, again.source, again.reference) == (form.digest, form.source, None)
    assert values.load_function(again, resolve).function() == 1


def test_error_of_a_function_that_cannot_be_pickled_at_all() -> None:
    lock = threading.Lock()
    with pytest.raises(workflow.errors.InvalidInputError, match=r"cannot be pickled: .*pass data instead of open"):
        stored_form(lambda: lock, keep)


def test_copy_of_a_script_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    script = types.ModuleType("__main__")
    exec(f"DATA = bytes({LARGEST_COPY})\ndef f(): return len(DATA)", vars(script))
    monkeypatch.setitem(sys.modules, "__main__", script)
    form = stored(vars(script)["f"])
    assert (form.module, form.reference, form.no_copy, form.source) == ("__main__", None, "", "")
    assert len(form.copy or b"") > LARGEST_COPY


@pytest.mark.parametrize(
    ("attributes", "environment", "source"),
    [
        ({"__file__": "/here/../trip.py"}, {}, "/trip.py"),
        ({"__vsc_ipynb_file__": "/trip.ipynb"}, {}, "/trip.ipynb"),
        ({}, {"JPY_SESSION_NAME": "/trip.ipynb"}, "/trip.ipynb"),
        ({}, {}, ""),
        ({"__file__": None}, {}, ""),
    ],
    ids=["script", "notebook in an editor", "notebook", "interactive shell", "no file"],
)
def test_source_of_the_program(
    attributes: dict[str, str], environment: dict[str, str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = types.ModuleType("__main__")
    vars(main).update(attributes)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main_source() == source


def test_remedy_names_the_package() -> None:
    assert "provide 'shop' to the workers" in stored_function.remedy("shop.orders.late")
