"""A store that fails on request, or runs a callback after a call.

Tests wrap any store with it to observe their code during an outage. The most important case is a write that succeeded
and whose reply was lost. A callback after a call simulates another process that writes between two calls.
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
    calls_left: int
    after: bool
    error: Exception


@dataclass(slots=True)
class _Callback:
    method: str
    key: str
    function: Callable[[], object]


class FailingStore:
    """Passes every call to another store, unless a fault is set for it. `workflow.store.Store` documents its methods.

    Args:
        inner: the store that is called.
    """

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._callbacks: list[_Callback] = []

    def fail(
        self, method: str, *, key: str = "", times: int = 1, after: bool = False, error: Exception | None = None
    ) -> None:
        """Make the next calls of one method fail.

        Args:
            method: `create`, `get`, `fetch`, `head`, `list`, `delete` or `overwrite`.
            key: affects only calls whose key contains this text. For `list`, the prefix counts as the key.
            times: number of calls that fail.
            after: call the inner store first, then lose its reply. A list then yields its first object before it fails.
            error: the exception to raise. The default is a `StoreUnavailableError`.
        """
        raised = error or StoreUnavailableError(f"cannot {method}: the test set a fault for this call", key=key)
        with self._lock:
            self._faults.append(_Fault(method, key, times, after, raised))

    def after_call(self, method: str, key: str, function: Callable[[], object]) -> None:
        """Call a function once, after the next successful call of one method and before its caller continues.

        Args:
            method: the same names as for `fail`. For `list`, the function is called after the last object.
            key: selects calls whose key contains this text. For `list`, the prefix counts as the key.
            function: the action of another process, on the inner store.
        """
        with self._lock:
            self._callbacks.append(_Callback(method, key, function))

    @property
    def url(self) -> str:
        """The address of the inner store."""
        return self._inner.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        return self._call("create", key, lambda: self._inner.create(key, data, put_id))

    def get(self, key: str) -> bytes | None:
        return self._call("get", key, lambda: self._inner.get(key))

    def fetch(self, key: str, allocate: Allocate) -> bool:
        return self._call("fetch", key, lambda: self._inner.fetch(key, allocate))

    def head(self, key: str) -> ObjectInfo | None:
        return self._call("head", key, lambda: self._inner.head(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        fault = self._next_fault("list", prefix)
        if fault and not fault.after:
            raise fault.error
        for info in self._inner.list(prefix, start_after):
            yield info
            if fault:
                raise fault.error
        self._run_callback("list", prefix)

    def delete(self, key: str) -> None:
        self._call("delete", key, lambda: self._inner.delete(key))

    def overwrite(self, key: str, data: bytes) -> None:
        self._call("overwrite", key, lambda: self._inner.overwrite(key, data))

    def close(self) -> None:
        """Close the inner store."""
        self._inner.close()

    def _call(self, method: str, key: str, call: Callable[[], T]) -> T:
        fault = self._next_fault(method, key)
        if fault is None:
            result = call()
            self._run_callback(method, key)
            return result
        if fault.after:
            call()
        raise fault.error

    def _run_callback(self, method: str, key: str) -> None:
        with self._lock:
            callback = next((each for each in self._callbacks if each.method == method and each.key in key), None)
            if callback is None:
                return
            self._callbacks.remove(callback)
        callback.function()

    def _next_fault(self, method: str, key: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.method == method and fault.key in key and fault.calls_left > 0:
                    fault.calls_left -= 1
                    return fault
        return None
