"""A wrapper that counts the calls of a store.

Benchmarks and tests use it to measure how many calls and bytes a step needs. To count attempts, put it inside the
retrying wrapper. To count calls, put it outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from workflow.store.port import Allocate, Data, ObjectInfo, Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Count:
    """The traffic of one method.

    Attributes:
        calls: number of calls, with those that failed. A list counts once, whatever its number of pages.
        errors: number of calls that raised.
        bytes_in: bytes sent to the store.
        bytes_out: bytes read from the store.
    """

    calls: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class InstrumentedStore:
    """A store that counts its calls by method. `workflow.store.Store` documents its methods.

    Args:
        inner: the store that is called.
    """

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}

    def counts(self) -> dict[str, Count]:
        """Return the counts since the start or the last reset, by method."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self._counts.clear()

    @property
    def url(self) -> str:
        """The address of the inner store."""
        return self._inner.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        return self._count("create", lambda: self._inner.create(key, data, put_id), len(data))

    def get(self, key: str) -> bytes | None:
        data = self._count("get", lambda: self._inner.get(key))
        self._add("get", Count(bytes_out=len(data or b"")))
        return data

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """Read an object. Its bytes count as soon as the read starts."""

        def counted(size: int) -> memoryview:
            self._add("fetch", Count(bytes_out=size))
            return allocate(size)

        return self._count("fetch", lambda: self._inner.fetch(key, counted))

    def head(self, key: str) -> ObjectInfo | None:
        return self._count("head", lambda: self._inner.head(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        self._add("list", Count(calls=1))
        try:
            yield from self._inner.list(prefix, start_after)
        except Exception:
            self._add("list", Count(errors=1))
            raise

    def delete(self, key: str) -> None:
        self._count("delete", lambda: self._inner.delete(key))

    def overwrite(self, key: str, data: bytes) -> None:
        self._count("overwrite", lambda: self._inner.overwrite(key, data), len(data))

    def close(self) -> None:
        """Close the inner store."""
        self._inner.close()

    def _count(self, method: str, call: Callable[[], T], bytes_in: int = 0) -> T:
        self._add(method, Count(calls=1, bytes_in=bytes_in))
        try:
            return call()
        except Exception:
            self._add(method, Count(errors=1))
            raise

    def _add(self, method: str, more: Count) -> None:
        with self._lock:
            old = self._counts.get(method, Count())
            self._counts[method] = replace(
                old,
                calls=old.calls + more.calls,
                errors=old.errors + more.errors,
                bytes_in=old.bytes_in + more.bytes_in,
                bytes_out=old.bytes_out + more.bytes_out,
            )
