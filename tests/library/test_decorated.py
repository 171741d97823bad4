"""Steps over decorated functions, and runs in a process with odd modules that no step uses."""

from __future__ import annotations

import functools
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import wrapt

import workflow
from workflow.errors import EntrypointError
from workflow.loading import load

pytestmark = pytest.mark.usefixtures("storage")


def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Supply the first argument, and describe the function by attributes, as frameworks do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    for name in ("function", "options", "step", "_options", "_name", "_signature"):
        setattr(wrapper, name, function)
    wrapper.tag = "kept"
    return wrapper


@wrapt.decorator
def with_session_by_wrapt(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped("session", *args, **kwargs)


@workflow.step
@with_session
def load_rows(session: str, table: str) -> str:
    """Load a table."""
    return f"{session} {table}"


@workflow.step
@with_session_by_wrapt
def load_column(session: str, table: str) -> str:
    return f"{session} {table}"


@workflow.step
@functools.lru_cache
def cached(value: int) -> int:
    return value + 1


@workflow.step
def named_self(self: int) -> int:
    return self + 1


@wrapt.decorator
def as_list(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return list(wrapped(*args, **kwargs))


@workflow.step
@as_list
def numbers(count: int) -> Any:
    yield from range(count)


class Shop:
    """Steps of a class that Python does not call with the object."""

    @workflow.step
    @staticmethod
    def free(price: int, discount: int = 0) -> int:
        return price - discount

    absolute = workflow.step(abs)
    double = workflow.step(functools.partial(lambda factor, price: factor * price, 2))

    @workflow.step
    @functools.lru_cache  # noqa: B019 - the cache is not stored with the step
    def owner(self, name: str) -> tuple[str, str]:
        return type(self).__name__, name


class Answers:
    """A callable that raises for unknown attributes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise RuntimeError(f"no {name}")
        raise AttributeError(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Answers, ()

    def __call__(self, value: int) -> int:
        return value + 1


@pytest.mark.parametrize("step", [load_rows, load_column], ids=["functools", "wrapt"])
def test_decorator_may_supply_an_argument(step: Any) -> None:
    assert step.step("orders").run() == "session orders"
    assert step.options(max_retries=2).step(table="orders").run() == "session orders"


def test_attributes_of_the_function_do_not_replace_own_ones() -> None:
    assert load_rows.tag == "kept"
    assert load_rows.__doc__ == "Load a table."
    assert load_rows.__name__ == "load_rows"


def test_wrapper_may_consume_a_generator() -> None:
    assert numbers.step(3).run() == [0, 1, 2]


def test_only_methods_get_their_object() -> None:
    shop = Shop()
    assert shop.free.step(5, discount=1).run() == 4
    assert shop.free.step(5).run() == Shop.free.step(5).run() == 5
    assert shop.absolute.step(-3).run() == 3
    assert shop.double.step(4).run() == 8
    assert shop.owner.step("Ann").run() == ("Shop", "Ann")


def test_cached_function_is_a_step() -> None:
    assert cached.step(1).run() == 2


def test_function_of_no_module_is_a_step(wid: str) -> None:
    namespace: dict[str, Any] = {}
    exec("def made(value): return value + 1", namespace)
    assert namespace["made"].__module__ is None
    made = workflow.step(namespace["made"])
    assert made.step(1).run(wid) == 2
    assert workflow.get_status(wid) is workflow.SUCCESSFUL
    assert made.step(1).run(wid) == 2


def test_entrypoint_may_be_decorated() -> None:
    assert load(f"{__name__}:load_rows", {"table": "orders"}).run() == "session orders"
    assert load(f"{__name__}:load_column", {"table": "orders"}).run() == "session orders"
    with pytest.raises(EntrypointError, match="do not fit"):
        load(f"{__name__}:named_self", {"table": "orders"})


def test_parameter_may_be_named_self() -> None:
    assert named_self.step(self=1).run() == 2


def test_callable_that_raises_for_unknown_attributes_is_a_step() -> None:
    assert workflow.step(Answers()).step(1).run() == 2


class RaisesAlways:
    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


class Lazy(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        raise ImportError("needs an optional package")


def test_odd_modules_do_not_fail_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_helper.py", "x = 1")
    monkeypatch.syspath_prepend(str(archive))
    monkeypatch.setitem(sys.modules, "zipped_helper", importlib_of("zipped_helper"))
    path_module = types.ModuleType("path_module")
    path_module.__file__ = tmp_path / "other.py"  # type: ignore[assignment]
    odd = {
        "aaa_raises": RaisesAlways(),
        "aaa_lazy": Lazy("aaa_lazy"),
        "aaa_path": path_module,
        "aaa_mock": mock.MagicMock(),
        "aaa_none": None,
        "\udcff": types.ModuleType("\udcff"),
    }
    for name, module in odd.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    assert workflow.step(lambda x: x + 1).step(1).run() == 2


def importlib_of(name: str) -> types.ModuleType:
    import importlib

    return importlib.import_module(name)
