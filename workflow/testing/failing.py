"""A store that fails when it is told to, or lets somebody else in.

Tests wrap any store with it to see what their code does in an outage, above all where a write went through and only its
answer was lost; and what it does where others write between two of its calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from workflow.errors import StoreUnavailableError
from workflow.store.port import Allocate, Data, ObjectInfo, Store

T = TypeVar("T")


@dataclass(slots=True)
class _Fault:
    method: str
    key: str
    left: int
    after: bool
    error: Exception


@dataclass(slots=True)
class _Visit:
    method: str
    key: str
    act: Callable[[], object]


class FailingStore:
    """Hands every call on, except where a fault was set for it.

    Args:
        inner: the store behind it.
    """

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._visits: list[_Visit] = []

    def fail(
        self, method: str, *, key: str = "", times: int = 1, after: bool = False, error: Exception | None = None
    ) -> None:
        """Let the next calls of one method fail.

        Args:
            method: `create`, `get`, `fetch`, `head`, `list`, `delete` or `overwrite`.
            key: only calls whose key (for `list`: prefix) holds this text.
            times: how many calls.
            after: do what was asked first, and lose the answer. A list gives its first object first.
            error: what is raised; by default `StoreUnavailable`.
        """
        raised = error or StoreUnavailableError(f"{method} was told to fail", key=key)
        with self._lock:
            self._faults.append(_Fault(method, key, times, after, raised))

    def behind(self, method: str, key: str, act: Callable[[], object]) -> None:
        """Do something right behind the next call of one method, before its caller goes on.

        Args:
            method: as for `fail`; a list counts once it has given all.
            key: only a call whose key (for `list`: prefix) holds this text.
            act: what others do, on the store behind this one.
        """
        with self._lock:
            self._visits.append(_Visit(method, key, act))

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        return self._call("create", key, lambda: self._inner.create(key, data, put_id))

    def get(self, key: str) -> bytes | None:
        """See the port."""
        return self._call("get", key, lambda: self._inner.get(key))

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port."""
        return self._call("fetch", key, lambda: self._inner.fetch(key, allocate))

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        return self._call("head", key, lambda: self._inner.head(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port."""
        fault = self._due("list", prefix)
        if fault and not fault.after:
            raise fault.error
        for info in self._inner.list(prefix, start_after):
            yield info
            if fault:
                raise fault.error
        self._let_in("list", prefix)

    def delete(self, key: str) -> None:
        """See the port."""
        self._call("delete", key, lambda: self._inner.delete(key))

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        self._call("overwrite", key, lambda: self._inner.overwrite(key, data))

    def close(self) -> None:
        """Close the inner store."""
        self._inner.close()

    def _call(self, method: str, key: str, call: Callable[[], T]) -> T:
        fault = self._due(method, key)
        if fault is None:
            result = call()
            self._let_in(method, key)
            return result
        if fault.after:
            call()
        raise fault.error

    def _let_in(self, method: str, key: str) -> None:
        with self._lock:
            visit = next((each for each in self._visits if each.method == method and each.key in key), None)
            if visit is None:
                return
            self._visits.remove(visit)
        visit.act()

    def _due(self, method: str, key: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.method == method and fault.key in key and fault.left > 0:
                    fault.left -= 1
                    return fault
        return None
