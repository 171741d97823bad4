"""An outage that passes is not noticed; one that lasts is told after the budget, with what was tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.store.port import Store
from workflow.store.retrying import RetryingStore
from workflow.testing import FailingStore, MemoryStore
from workflow.testing.store_contract import fetched

CALLS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create("key", b"data", "put-1"),
    "get": lambda store: store.get("key"),
    "fetch": lambda store: fetched(store, "other"),
    "head": lambda store: store.head("key"),
    "list": lambda store: [info.key for info in store.list("")],
    "delete": lambda store: store.delete("key"),
    "overwrite": lambda store: store.overwrite("key", b"data"),
}


class Waits:
    """A sleep that takes no time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def made(budget: float = 30.0) -> tuple[RetryingStore, FailingStore, Waits]:
    """A store that tries again, one below that fails, and the waits between tries."""
    failing = FailingStore(MemoryStore())
    waits = Waits()
    return RetryingStore(failing, budget, waits), failing, waits


@pytest.mark.parametrize("after", [False, True], ids=["not done", "answer lost"])
@pytest.mark.parametrize("method", CALLS)
def test_a_passing_outage_is_not_noticed(method: str, after: bool) -> None:
    calm = MemoryStore()
    calm.create("other", b"", "put-0")
    expected = CALLS[method](calm)
    store, failing, waits = made()
    store.create("other", b"", "put-0")
    failing.fail(method, times=4, after=after)
    assert CALLS[method](store) == expected
    assert len(waits.seconds) <= 4


@pytest.mark.parametrize("method", CALLS)
def test_one_that_lasts_is_told_after_the_budget(method: str) -> None:
    store, failing, waits = made(budget=12.0)
    store.create("other", b"", "put-0")
    failing.fail(method, times=10_000)
    with pytest.raises(
        StoreUnavailableError, match=rf"^{method} was told to fail \(gave up after \d+ tries\)$"
    ) as given_up:
        CALLS[method](store)
    assert sum(waits.seconds) <= 12.0
    assert max(waits.seconds) <= 5.0
    assert given_up.value.key == ""  # type: ignore[attr-defined]


def test_a_budget_of_nothing_means_one_try() -> None:
    store, failing, waits = made(budget=0.0)
    failing.fail("get", times=10)
    with pytest.raises(StoreUnavailableError, match="gave up after 1 try"):
        store.get("key")
    assert waits.seconds == []


@pytest.mark.parametrize("method", CALLS)
def test_a_refusal_is_not_tried_again(method: str) -> None:
    store, failing, waits = made()
    failing.fail(method, times=1, error=StoreRefusedError("no"))
    with pytest.raises(StoreRefusedError, match=r"^no$"):
        CALLS[method](store)
    assert waits.seconds == []


def test_every_try_bears_the_same_mark() -> None:
    store, failing, _ = made()
    failing.fail("create", times=3, after=True)
    assert store.create("key", b"mine", "put-1") is True
    failing.fail("create", times=3, after=True)
    assert store.create("key", b"other", "put-2") is False
    assert store.get("key") == b"mine"


def test_a_list_that_breaks_gives_each_key_once() -> None:
    store, failing, _ = made()
    keys = [f"log/{number}" for number in range(10)]
    for key in keys:
        store.create(key, b"", "put-1")
    # "after" breaks each new attempt behind the first key that it gives.
    failing.fail("list", times=25, after=True)
    assert [info.key for info in store.list("log/")] == keys


def test_closing_ends_the_waits() -> None:
    failing = FailingStore(MemoryStore())
    store = RetryingStore(failing)
    failing.fail("get", times=10_000)
    store.close()
    with pytest.raises(StoreUnavailableError, match="gave up after 1 try"):
        store.get("key")
