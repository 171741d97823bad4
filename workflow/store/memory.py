"""A store in this process's memory: `memory://name`.

For tests and for trying things out; whoever opens the same name in the same process sees the same objects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workflow.store.key_rules import check_key
from workflow.store.port import Allocate, Data, ObjectInfo


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes
    put_id: str
    written: float


class MemoryStore:
    """A store that ends with the process.

    Args:
        name: the part of its url behind `memory://`. Two stores made by this constructor share nothing; `named` shares.
        clock: seconds, for the age of objects.
    """

    def __init__(self, name: str = "private", clock: Callable[[], float] = time.monotonic) -> None:
        self._url = f"memory://{name}"
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, _Held] = {}

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """The one store of this name in this process, made when it is asked for first."""
        with _NAMED_LOCK:
            return _NAMED.setdefault(name, cls(name))

    @property
    def url(self) -> str:
        """`memory://` and the name."""
        return self._url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        check_key(key)
        whole = data if isinstance(data, bytes) else b"".join(data)
        with self._lock:
            held = self._objects.setdefault(key, _Held(whole, put_id, self._clock()))
        return held.put_id == put_id

    def get(self, key: str) -> bytes | None:
        """See the port."""
        check_key(key)
        held = self._objects.get(key)
        return None if held is None else held.data

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port."""
        data = self.get(key)
        if data is None:
            return False
        allocate(len(data))[:] = data
        return True

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        check_key(key)
        held = self._objects.get(key)
        return None if held is None else self._info(key, held)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port. Keys are taken when the iterator is first asked."""
        with self._lock:
            # Python orders text by code point, which is the order of its bytes in UTF-8.
            keys = sorted(key for key in self._objects if key.startswith(prefix) and key > start_after)
        for key in keys:
            held = self._objects.get(key)
            if held is not None:
                yield self._info(key, held)

    def delete(self, key: str) -> None:
        """See the port."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        check_key(key)
        with self._lock:
            self._objects[key] = _Held(bytes(data), "", self._clock())

    def close(self) -> None:
        """Nothing to give back; the objects stay for whoever opens the name again."""

    def _info(self, key: str, held: _Held) -> ObjectInfo:
        return ObjectInfo(key, len(held.data), max(0.0, self._clock() - held.written))


_NAMED: dict[str, MemoryStore] = {}
_NAMED_LOCK = threading.Lock()
