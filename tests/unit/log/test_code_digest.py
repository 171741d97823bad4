"""Equal source gives equal digests in all processes, whatever their state. Each change of used code gives another."""

from __future__ import annotations

import functools
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workflow
from tests.support import user_modules
from tests.support.code_cases import CHANGES, NO_CHANGES, SAME_SOURCE, STATE, WRAPPING
from workflow.log.code_digest import digest

DIGESTS = """
    import importlib, json, pathlib, sys
    from workflow.log.code_digest import digest
    found = {}
    for index, state in json.loads(sys.argv[1]):
        m = importlib.import_module(f"case_{index}")
        exec(state)
        found[index] = digest(m.f)
    sys.settrace(None)
    print(json.dumps(found))
"""

Case = tuple[str, str, str]
"""The source of a module before, the source after, and a program that changes the state of the module before."""

CASES: dict[str, tuple[Case, bool]] = {
    **{f"same source: {name}": ((source, source, ""), True) for name, source in SAME_SOURCE.items()},
    **{f"state: {name}": ((source, source, state), True) for name, (source, state) in STATE.items()},
    **{f"change: {name}": ((*sources, ""), False) for name, sources in CHANGES.items()},
    **{f"no change: {name}": ((*sources, ""), True) for name, sources in NO_CHANGES.items()},
}


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """The digest of `f` before and after, of each case by its index, computed by two processes."""
    folder = tmp_path_factory.mktemp("digests")
    for side in (0, 1):
        sources = {f"case_{index}": case[side] for index, (case, _) in enumerate(CASES.values())}
        user_modules.write(folder / str(side), {**sources, "wrapping": WRAPPING})
    states = [(index, case[2]) for index, (case, _) in enumerate(CASES.values())]
    before = user_modules.in_process(DIGESTS, folder / "0", json.dumps(states), hash_seed="1")
    after = user_modules.in_process(DIGESTS, folder / "1", json.dumps([(i, "") for i, _ in states]), hash_seed="2")
    return before, after


@pytest.mark.parametrize("name", CASES)
def test_digest_depends_on_code_alone(name: str, digests: tuple[dict[str, str], dict[str, str]]) -> None:
    index = str(list(CASES).index(name))
    before, after = (found[index] for found in digests)
    assert len(before) == len(after) == 32
    assert (before == after) == CASES[name][1]


class _Source:
    """A loader that has the source of a module in memory."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, name: str) -> str:
        return self._source


def function_of(source: str, name: str = "in_memory", *, has_source: bool = True) -> Callable[..., Any]:
    """Return the function `f` of a module that stays in `sys.modules` for the next call only."""
    module = types.ModuleType(name)
    if has_source:
        vars(module)["__loader__"] = _Source(source)
    exec(source, vars(module))
    sys.modules[name] = module
    found: Callable[..., Any] = vars(module)["f"]
    return found


def digest_of(source: str, name: str = "in_memory", *, has_source: bool = True) -> str:
    before = sys.modules.get(name)
    try:
        return digest(function_of(source, name, has_source=has_source))
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


STATEMENTS = [
    "import os",
    "N = {'a': [1, 2]}",
    "class C:\n    x = 1\n    def m(self): return N",
    "def f(): return C().m()",
]


@given(st.lists(st.sampled_from(["", "# text", "    # indented", "\n\n"]), min_size=5, max_size=5))
def test_comments_and_empty_lines_do_not_count(between: list[str]) -> None:
    lines = [text for pair in zip(between, [*STATEMENTS, ""], strict=True) for text in pair]
    assert digest_of("\n".join(lines)) == digest_of("\n".join(STATEMENTS))


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers(), inner, max_size=3),
    max_leaves=5,
)


@given(literals, literals)
def test_two_constants_are_equal_if_their_source_is(first: Any, second: Any) -> None:
    sources = [f"inf = nan = 1.0\nN = {value!r}\ndef f(): return N" for value in (first, second)]
    assert (digest_of(sources[0]) == digest_of(sources[1])) == (repr(first) == repr(second))


@given(literals, literals)
def test_two_default_arguments_differ_only_in_plain_values(first: Any, second: Any) -> None:
    sources = [f"inf = nan = 1.0\ndef f(x=({value!r}, 1)): return x" for value in (first, second)]
    assert digest_of(sources[0]) == digest_of(sources[0])
    if not isinstance(first, list | dict) and repr(first) != repr(second):
        assert digest_of(sources[0]) != digest_of(sources[1])


def test_name_of_another_module_counts_but_not_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for body in ("1", "2"):
        helpers = types.ModuleType("helpers")
        exec(f"def g(): return {body}", vars(helpers))
        monkeypatch.setitem(sys.modules, "helpers", helpers)
        digests.append(digest_of("from helpers import g\ndef f(): return g()"))
    assert digests[0] == digests[1]
    assert digests[0] != digest_of("from os import getpid as g\ndef f(): return g()")


def test_library_may_move_its_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from workflow import sleep, EventListener\nclass L(EventListener): ...\ndef f(): return sleep(1), L"
    before = digest_of(source)
    monkeypatch.setattr(workflow.sleep, "__module__", "workflow.elsewhere")
    monkeypatch.setattr(workflow.EventListener, "__module__", "workflow.elsewhere")
    assert digest_of(source) == before


def test_constants_of_a_notebook_count_although_it_has_no_source() -> None:
    cell = "N = {}\nclass C:\n    x = 1\ndef f(): return N, C"
    sources = [cell.format(1), cell.format(2), cell.format(1).replace("x = 1", "x = 2")]
    assert len({digest_of(source, "__main__", has_source=False) for source in sources}) == 3


NOTEBOOK = {
    "number": ("N = 1", "N = 2"),
    "dict": ("N = {'a': [1, {2}]}", "N = {'a': [1, {3}]}"),
    "type of a container": ("N = [1]", "N = (1,)"),
    "object": (
        "class C:\n    def __init__(self, x): self.x = x\nN = C(1)",
        "class C:\n    def __init__(self, x): self.x = x\nN = C(2)",
    ),
    "method of an object": (
        "class C:\n    def m(self): return 1\nN = C()",
        "class C:\n    def m(self): return 2\nN = C()",
    ),
    "function": ("def N(): return 1", "def N(): return 2"),
    "decimal number": ("import decimal\nN = decimal.Decimal(1)", "import decimal\nN = decimal.Decimal(2)"),
    "date": ("import datetime\nN = [datetime.date(1, 1, 1)]", "import datetime\nN = [datetime.date(1, 1, 2)]"),
    "path": ("import pathlib\nN = pathlib.Path('a')", "import pathlib\nN = pathlib.Path('b')"),
    "array": ("import numpy\nN = numpy.arange(3)", "import numpy\nN = numpy.arange(3) * 2"),
    "large array": ("import numpy\nN = numpy.zeros(10**6)", "import numpy\nN = numpy.ones(10**6)"),
    "array of small numbers": ("import array\nN = array.array('i', [1])", "import array\nN = array.array('i', [2])"),
}


@pytest.mark.parametrize("name", NOTEBOOK)
def test_present_objects_of_a_notebook_count(name: str) -> None:
    before, after = (f"{source}\ndef f(): return N" for source in NOTEBOOK[name])
    assert digest_of(before, "__main__", has_source=False) == digest_of(before, "__main__", has_source=False)
    assert digest_of(before, "__main__", has_source=False) != digest_of(after, "__main__", has_source=False)


def test_data_of_a_notebook_that_contains_itself_ends() -> None:
    source = "N = []\nN.append(N)\ndef f(): return N"
    assert digest_of(source, "__main__", has_source=False) == digest_of(source, "__main__", has_source=False)


def test_module_without_source_is_compared_by_its_functions() -> None:
    sources = ["N = 1\ndef f(): return N", "N = 2\ndef f(): return N", "N = 1\ndef f(): return N, 1"]
    first, second, third = (digest_of(source, has_source=False) for source in sources)
    assert first == second != third


def test_source_that_is_being_written_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Source, "get_source", lambda self, name: "def f(:")
    assert digest_of("def f(): return 1") == digest_of("def f(): return 1", has_source=False)


class Holder:
    def method(self) -> int:
        return 1


@pytest.mark.parametrize(
    "given_form",
    [
        Holder().method,
        functools.partial(Holder.method, Holder()),
        workflow.step(Holder.method),
        workflow.step(functools.partial(workflow.step(Holder.method).function, Holder())),
    ],
    ids=["method of an object", "partial", "step", "step of a partial of a step"],
)
def test_digest_is_that_of_the_function_inside(given_form: Callable[..., Any]) -> None:
    assert digest(given_form) == digest(Holder.method)


@pytest.mark.parametrize("given_form", [len, functools.partial(len), [].append, dict, workflow.step(len), Holder()])
def test_object_without_python_code_has_no_digest(given_form: Any) -> None:
    assert digest(given_form) == ""


class Proxy:
    """An object that is ready only later, as lazy settings are."""

    @property  # type: ignore[misc]  # a proxy hides its class
    def __class__(self) -> Any:
        raise RuntimeError("not ready")


@pytest.mark.parametrize("has_source", [True, False])
def test_object_that_is_not_ready_is_left_alone(has_source: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.lazy_of_test", Proxy(), raising=False)
    source = "lazy = lazy_of_test\ndef make(x):\n    return lambda: (x, lazy)\nf = make(lazy)"
    assert len(digest_of(source, "__main__", has_source=has_source)) == 32


def test_decorators_that_wrap_in_a_circle_end() -> None:
    def f() -> None: ...

    f.__wrapped__ = f  # type: ignore[attr-defined]
    assert len(digest(f)) == 32
