"""Tests of the retrying wrapper: it hides a short outage, and reports a long one after its budget."""

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


def retrying_store(budget: float = 30.0) -> tuple[RetryingStore, FailingStore, Waits]:
    """Return a retrying store, the failing store below it, and the waits between attempts."""
    failing = FailingStore(MemoryStore())
    waits = Waits()
    return RetryingStore(failing, budget, waits), failing, waits


@pytest.mark.parametrize("after", [False, True], ids=["call lost", "reply lost"])
@pytest.mark.parametrize("method", CALLS)
def test_short_outage_is_hidden(method: str, after: bool) -> None:
    healthy = MemoryStore()
    healthy.create("other", b"", "put-0")
    expected = CALLS[method](healthy)
    store, failing, waits = retrying_store()
    store.create("other", b"", "put-0")
    failing.fail(method, times=4, after=after)
    assert CALLS[method](store) == expected
    assert len(waits.seconds) <= 4


@pytest.mark.parametrize("method", CALLS)
def test_long_outage_is_reported_after_the_budget(method: str) -> None:
    store, failing, waits = retrying_store(budget=12.0)
    store.create("other", b"", "put-0")
    failing.fail(method, times=10_000)
    with pytest.raises(
        StoreUnavailableError, match=rf"^cannot {method}: the test set a fault.* \(gave up after \d+ attempts\)$"
    ) as given_up:
        CALLS[method](store)
    assert sum(waits.seconds) <= 12.0
    assert max(waits.seconds) <= 5.0
    assert given_up.value.key == ""  # type: ignore[attr-defined]


def test_budget_of_zero_means_one_attempt() -> None:
    store, failing, waits = retrying_store(budget=0.0)
    failing.fail("get", times=10)
    with pytest.raises(StoreUnavailableError, match=r"gave up after 1 attempt\)"):
        store.get("key")
    assert waits.seconds == []


@pytest.mark.parametrize("method", CALLS)
def test_refusal_is_not_retried(method: str) -> None:
    store, failing, waits = retrying_store()
    failing.fail(method, times=1, error=StoreRefusedError("no"))
    with pytest.raises(StoreRefusedError, match=r"^no$"):
        CALLS[method](store)
    assert waits.seconds == []


def test_all_attempts_of_a_create_use_one_put_id() -> None:
    store, failing, _ = retrying_store()
    failing.fail("create", times=3, after=True)
    assert store.create("key", b"mine", "put-1") is True
    failing.fail("create", times=3, after=True)
    assert store.create("key", b"other", "put-2") is False
    assert store.get("key") == b"mine"


def test_list_with_failures_yields_each_key_once() -> None:
    store, failing, _ = retrying_store()
    keys = [f"log/{number}" for number in range(10)]
    for key in keys:
        store.create(key, b"", "put-1")
    # With `after`, each attempt fails after the first key that it yields.
    failing.fail("list", times=25, after=True)
    assert [info.key for info in store.list("log/")] == keys


def test_close_ends_the_waits() -> None:
    failing = FailingStore(MemoryStore())
    store = RetryingStore(failing)
    failing.fail("get", times=10_000)
    store.close()
    with pytest.raises(StoreUnavailableError, match=r"gave up after 1 attempt\)"):
        store.get("key")
