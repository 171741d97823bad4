"""Tests of the ages in a memory store, and of the counting wrapper."""

from __future__ import annotations

import pytest

from workflow.errors import StoreUnavailableError
from workflow.testing import FailingStore, MemoryStore
from workflow.testing.instrumented import Count, InstrumentedStore
from workflow.testing.store_contract import fetched


def test_memory_store_computes_ages_with_its_clock() -> None:
    now = 100.0
    store = MemoryStore(clock=lambda: now)
    store.create("made", b"", "put-1")
    store.overwrite("beat", b"")
    now = 140.0
    store.overwrite("beat", b"")
    now = 145.0
    assert {info.key: info.age for info in store.list("")} == {"made": 45.0, "beat": 5.0}
    now = 90.0
    assert {info.key: info.age for info in store.list("")} == {"made": 0.0, "beat": 0.0}


def test_calls_and_bytes_are_counted_per_method() -> None:
    store = InstrumentedStore(MemoryStore())
    store.create("a", b"12345", "put-1")
    store.create("a", b"123", "put-2")
    store.get("a")
    store.get("missing")
    assert fetched(store, "a") == b"12345"
    assert fetched(store, "missing") is None
    store.head("a")
    assert len(list(store.list(""))) == 1
    store.overwrite("beat", b"1")
    store.delete("a")
    assert store.counts() == {
        "create": Count(calls=2, bytes_in=8),
        "get": Count(calls=2, bytes_out=5),
        "fetch": Count(calls=2, bytes_out=5),
        "head": Count(calls=1),
        "list": Count(calls=1),
        "overwrite": Count(calls=1, bytes_in=1),
        "delete": Count(calls=1),
    }
    store.reset()
    assert store.counts() == {}


def test_failed_calls_are_counted_as_errors() -> None:
    failing = FailingStore(MemoryStore())
    store = InstrumentedStore(failing)
    failing.fail("get")
    with pytest.raises(StoreUnavailableError):
        store.get("a")
    failing.fail("list")
    with pytest.raises(StoreUnavailableError):
        list(store.list(""))
    assert store.counts() == {"get": Count(calls=1, errors=1), "list": Count(calls=1, errors=1)}
