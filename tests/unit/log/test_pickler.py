"""Functions, steps and classes of the user's modules in each form of a pickle."""

from __future__ import annotations

import functools
import logging
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workflow
from workflow.errors import InvalidInputError
from workflow.log import values
from workflow.log.pickler import Form, dumps
from workflow.steps import StepFunction

SHOP = """
import dataclasses, functools, threading
import workflow

calls = []

def helper(x):
    calls.append(x)
    return x, len(calls), VERSION

@workflow.step(max_retries=3, name="buy", metadata={"a": 1})
def buy(x): return helper(x)

@workflow.step
def count(n): return count.step(n - 1) if n else VERSION

@workflow.step
def ping(n): return pong.step(n - 1) if n else VERSION

@workflow.step
def pong(n): return ping.step(n - 1) if n else VERSION

def make(number):
    def inner(x): return x, number, helper(x)
    return inner

@dataclasses.dataclass
class Cart:
    item: int
    @workflow.step
    def pay(self): return self.item, VERSION
    def total(self): return self.item, VERSION
    @classmethod
    def empty(cls): return cls(0), VERSION
    @staticmethod
    def price(): return VERSION

LOCK = threading.Lock()
@workflow.step
def locked(x):
    with LOCK: return x, VERSION
"""

Define = Callable[[str, int], types.ModuleType]


@pytest.fixture
def define() -> Iterator[Define]:
    """Make a module of this process with the code of `SHOP` and a version; it replaces one with its name."""
    made: list[str] = []

    def make(name: str, version: int) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(loader=None)  # type: ignore[assignment]
        sys.modules[name] = module
        made.append(name)
        exec(f"{SHOP}\nVERSION = {version}\ndef version(): return {version}", vars(module))
        return module

    yield make
    for name in made:
        sys.modules.pop(name, None)


def keep(obj: Any) -> None:
    """Replaces nothing."""


def resolve(kind: str, name: str) -> Any:
    raise AssertionError(f"no mark was expected: {kind} {name}")


def load(data: Any) -> Any:
    return values.loads(data, resolve)


def follow(found: Any) -> Any:
    """Execute the steps that a dynamic step returns."""
    while isinstance(found, workflow.Workflow):
        found = found.function(*found.args)
    return found


def test_step_as_an_argument_is_that_of_the_module(define: Define) -> None:
    shop = define("shop", 1)
    (first, second), again = load(dumps(([shop.buy, shop.buy], {"step": shop.buy}), keep))
    assert first is second is again["step"]
    assert isinstance(first, StepFunction)
    assert first.function is shop.buy.function
    node = first.step(1)
    assert (node.title, node.step_options.max_retries, node.step_options.metadata) == ("buy", 3, '{"a": 1}')


def test_function_of_a_step_as_an_argument_is_that_of_the_module(define: Define) -> None:
    shop = define("shop", 1)
    plain, partial = load(dumps((shop.buy.function, functools.partial(shop.buy.function, 2)), keep))
    assert plain is partial.func is shop.buy.function


def test_step_as_an_argument_without_its_module_is_a_copy(define: Define, caplog: pytest.LogCaptureFixture) -> None:
    shop = define("shop_without_module", 1)
    data = dumps(shop.buy, keep)
    del sys.modules["shop_without_module"]
    found = load(data)
    assert found.function(5) == (5, 1, 1)
    assert load(data).function(6) == (6, 1, 1), "each copy has globals of its own"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the copy of shop_without_module.buy that is stored with the run is executed" in record.getMessage()


def test_step_as_an_argument_keeps_its_code(define: Define) -> None:
    data = dumps(define("shop", 1).buy, keep)
    shop = define("shop", 1)
    vars(shop)["helper"] = lambda x: "changed"
    assert load(data).function(5) == (5, 1, 1)
    assert shop.calls == []


def test_step_with_a_lock_needs_its_module(define: Define) -> None:
    shop = define("shop", 1)
    data = dumps([shop.locked], keep)
    assert load(data)[0].function(1) == (1, 1)
    del sys.modules["shop"]
    with pytest.raises(InvalidInputError, match=r"cannot load function shop\.locked: .*lock.*provide 'shop' to the"):
        load(data)


@pytest.mark.parametrize("name", ["count", "ping", "pong"])
@pytest.mark.parametrize("form", Form)
def test_recursive_steps_work_in_each_form(name: str, form: Form, define: Define) -> None:
    shop = define("shop", 7)
    step = vars(shop)[name]
    assert follow(load(dumps(step, keep, form, "shop")).step(3)) == 7
    assert follow(load(dumps(step.function, keep, form, "shop"))(3)) == 7


def test_named_step_is_the_same_object_by_reference(define: Define) -> None:
    shop = define("shop", 1)
    given_parts = (shop.buy, shop.helper, shop.Cart, shop.Cart.pay, shop.Cart.total, shop.buy.function)
    for part, found in zip(given_parts, load(dumps(given_parts, keep, Form.REFERENCE)), strict=True):
        assert found is part


def test_reference_is_the_code_of_the_process_that_loads_it(define: Define) -> None:
    data = dumps((define("shop", 1).buy, sys.modules["shop"].Cart(3)), keep, Form.REFERENCE)
    shop = define("shop", 2)
    buy, cart = load(data)
    assert buy is shop.buy
    assert (cart.total(), type(cart)) == ((3, 2), shop.Cart)


def test_inner_function_uses_the_globals_of_its_module(define: Define) -> None:
    shop = define("shop", 1)
    found = load(dumps(shop.make(10), keep, Form.REFERENCE))
    assert found.__globals__ is vars(shop)
    assert found(5) == (5, 10, (5, 1, 1))
    assert shop.calls == [5]


def test_reference_to_a_missing_name_is_an_error(define: Define) -> None:
    data = dumps([define("shop", 1).buy], keep, Form.REFERENCE)
    del define("shop", 1).buy
    with pytest.raises(InvalidInputError, match="module 'shop' has no 'buy'"):
        load(data)


def test_copy_has_its_own_globals_and_classes(define: Define) -> None:
    shop = define("shop", 1)
    data = dumps(shop.buy.function, keep, Form.COPY, "shop")
    found = load(data)
    assert (found(5), found(6), shop.calls) == ((5, 1, 1), (6, 2, 1), [])
    del sys.modules["shop"]
    assert load(data)(5) == (5, 1, 1)


def test_copy_leaves_functions_of_other_modules_where_they_are(define: Define) -> None:
    shop, tools = define("shop", 1), define("tools", 9)
    vars(shop)["helper"] = tools.helper
    found = load(dumps(shop.buy.function, keep, Form.COPY, "shop"))
    assert found(5) == (5, 1, 9)
    assert tools.calls == [5]


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("m.Cart(3).total", (3, 1)),
        ("m.Cart.empty", None),
        ("m.Cart.price", 1),
        ("functools.partial(m.Cart(3).total)", (3, 1)),
        ("m.make(4)", None),
        ("lambda: m.VERSION", 1),
        ("m.Cart(3).pay.function", (3, 1)),
        ("len", None),
        ("m.calls.append", None),
    ],
)
@pytest.mark.parametrize("form", Form)
def test_callables_in_each_form(expression: str, result: Any, form: Form, define: Define) -> None:
    scope = {"m": define("shop", 1), "functools": functools}
    found = load(dumps(eval(expression, scope), keep, form, "shop"))
    assert callable(found)
    if result is not None:
        assert found() == result


def test_method_of_an_object_as_a_step(define: Define) -> None:
    shop = define("shop", 1)
    step = shop.Cart(3).pay
    found = load(dumps(step, keep))
    assert found.function() == (3, 1)
    assert type(found.function.__self__) is shop.Cart


def test_reducer_comes_before_all_rules(define: Define) -> None:
    shop = define("shop", 1)
    data = dumps([shop.buy, shop.Cart], lambda obj: values.mark("thing", "x") if obj in (shop.buy, shop.Cart) else None)
    assert values.loads(data, lambda kind, name: kind + name) == ["thingx", "thingx"]


data_of_users = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(data_of_users, st.sampled_from(Form))
def test_data_is_unchanged_in_each_form(value: Any, form: Form) -> None:
    assert load(dumps(value, keep, form)) == value
