"""Pickling does not fail because of unrelated modules, and does not drop what wraps a function."""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import wrapt

from workflow.errors import InvalidInputError
from workflow.log import values
from workflow.model.graph import StepOptions
from workflow.steps import StepFunction


def copy_of(value: Any) -> Any:
    """Return what another process would unpickle."""
    return values.loads(values.dumps(value, lambda obj: None), lambda kind, name: None)


class Troublesome(types.ModuleType):
    """Like `cython.cimports`: imports a module for every unknown name."""

    def __getattr__(self, name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")


class Global:
    """An object without `__module__` that is pickled by its name, as NumPy's functions were before NumPy 2.2."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__module__":
            raise AttributeError(name)
        return super().__getattribute__(name)


the_global = Global()


@pytest.fixture
def named() -> Iterator[None]:
    copyreg.pickle(Global, lambda obj: "the_global")
    yield
    del copyreg.dispatch_table[Global]


@pytest.mark.usefixtures("named")
def test_global_object_is_found_in_its_module() -> None:
    assert copy_of([the_global]) == [the_global]


@pytest.mark.usefixtures("named")
def test_module_that_raises_does_not_disturb_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aaa_troublesome", Troublesome("aaa_troublesome"))
    here = sys.modules.pop(__name__)
    sys.modules[__name__] = here  # it is found after the troublesome module
    with pytest.raises(ModuleNotFoundError):
        pickle.dumps(the_global)
    assert copy_of([the_global]) == [the_global]


@pytest.mark.usefixtures("named")
def test_global_object_in_no_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aaa_troublesome", Troublesome("aaa_troublesome"))
    with pytest.raises(InvalidInputError, match="cannot be pickled"):
        copy_of(Global())


def test_other_registered_reducers_are_used() -> None:
    class Registered:
        pass

    copyreg.pickle(Registered, lambda obj: (list, ((1, 2),)))  # type: ignore[arg-type, return-value]
    try:
        assert copy_of(Registered()) == [1, 2]
    finally:
        del copyreg.dispatch_table[Registered]


@pytest.mark.parametrize("error", [KeyError, ImportError, RuntimeError])
def test_function_of_a_module_that_raises_is_pickled(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lazy_flow")
    source = "def __getattr__(name):\n    raise error(name)\n\ntwice = [lambda x: 2 * x]\n"
    vars(module)["error"] = error
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, "lazy_flow", module)
    assert copy_of(module.twice[0])(21) == 42


# --- wrappers ---


def plain(value: int) -> int:
    return value


@wrapt.decorator
def add_hundred(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs) + 100


def test_wrapper_of_wrapt_is_kept() -> None:
    assert copy_of(add_hundred(plain))(1) == 101
    assert copy_of([add_hundred(lambda x: x)])[0](1) == 101


@functools.lru_cache(maxsize=7)
def cached(value: int) -> int:
    return value + 1


@functools.cache
def replaced(value: int) -> int:
    return value + 2


by_name = replaced
replaced = StepFunction(by_name, StepOptions())  # type: ignore[assignment]  # as the decorator does


def test_cached_function_is_pickled_by_name_or_by_value() -> None:
    assert copy_of(cached) is cached
    copy = copy_of(by_name)
    assert copy is not by_name
    assert [copy(1), copy(1), copy.cache_info().hits] == [3, 3, 1]
    local = copy_of(functools.lru_cache(maxsize=3, typed=True)(lambda x: x))
    assert local.cache_parameters() == {"maxsize": 3, "typed": True}
    assert local(5) == local.__wrapped__(5) == 5


def test_other_proxy_of_a_function_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot be pickled"):
        copy_of(wrapt.ObjectProxy(plain))
    with pytest.raises(InvalidInputError, match="cannot be pickled"):
        copy_of(mock.Mock(spec=plain))
