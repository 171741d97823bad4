"""A wrapper that counts what goes through it.

Benchmarks and tests use it to say how many calls of the store, and how many bytes, a step costs. It stands inside the
retrying wrapper where tries count, and outside where calls do.
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
    """What went through one method.

    Attributes:
        calls: also those that failed. A list counts once, however many pages it has.
        errors: how many of them raised.
        bytes_in: sent to the store.
        bytes_out: read from it.
    """

    calls: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class InstrumentedStore:
    """A store whose calls are counted by method.

    Args:
        inner: the store.
    """

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}

    def counts(self) -> dict[str, Count]:
        """What went through since the start or the last reset, by method."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Count anew."""
        with self._lock:
            self._counts.clear()

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        return self._counted("create", lambda: self._inner.create(key, data, put_id), len(data))

    def get(self, key: str) -> bytes | None:
        """See the port."""
        data = self._counted("get", lambda: self._inner.get(key))
        self._add("get", Count(bytes_out=len(data or b"")))
        return data

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port. Bytes count where reading them began."""

        def counted(size: int) -> memoryview:
            self._add("fetch", Count(bytes_out=size))
            return allocate(size)

        return self._counted("fetch", lambda: self._inner.fetch(key, counted))

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        return self._counted("head", lambda: self._inner.head(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port."""
        self._add("list", Count(calls=1))
        try:
            yield from self._inner.list(prefix, start_after)
        except Exception:
            self._add("list", Count(errors=1))
            raise

    def delete(self, key: str) -> None:
        """See the port."""
        self._counted("delete", lambda: self._inner.delete(key))

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        self._counted("overwrite", lambda: self._inner.overwrite(key, data), len(data))

    def close(self) -> None:
        """Close the inner store."""
        self._inner.close()

    def _counted(self, method: str, call: Callable[[], T], bytes_in: int = 0) -> T:
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
