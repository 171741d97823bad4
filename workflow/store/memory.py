"""A store in the memory of this process: `memory://name`.

It is meant for tests and experiments. All users of one name in the same process share the same objects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workflow.store.key_rules import check_key
from workflow.store.port import Allocate, Data, ObjectInfo


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    put_id: str
    written_at: float


class MemoryStore:
    """A store that ends with the process. `workflow.store.Store` documents its methods.

    Two stores made by this constructor share nothing. Use `named` to share objects.

    Args:
        name: the part of its url after `memory://`.
        clock: returns seconds, for the age of objects.
    """

    def __init__(self, name: str = "private", clock: Callable[[], float] = time.monotonic) -> None:
        self._url = f"memory://{name}"
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """Return the only store of this name in this process. The first call makes it."""
        with _NAMED_LOCK:
            return _NAMED.setdefault(name, cls(name))

    @property
    def url(self) -> str:
        """`memory://` and the name."""
        return self._url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        check_key(key)
        content = data if isinstance(data, bytes) else b"".join(data)
        with self._lock:
            stored = self._objects.setdefault(key, _Object(content, put_id, self._clock()))
        return stored.put_id == put_id

    def get(self, key: str) -> bytes | None:
        check_key(key)
        stored = self._objects.get(key)
        return None if stored is None else stored.data

    def fetch(self, key: str, allocate: Allocate) -> bool:
        data = self.get(key)
        if data is None:
            return False
        allocate(len(data))[:] = data
        return True

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        stored = self._objects.get(key)
        return None if stored is None else self._info(key, stored)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List the keys that exist when the iterator is first advanced."""
        with self._lock:
            # Python orders text by code point, which is the order of its bytes in UTF-8.
            keys = sorted(key for key in self._objects if key.startswith(prefix) and key > start_after)
        for key in keys:
            stored = self._objects.get(key)
            if stored is not None:
                yield self._info(key, stored)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def overwrite(self, key: str, data: bytes) -> None:
        check_key(key)
        with self._lock:
            self._objects[key] = _Object(bytes(data), "", self._clock())

    def close(self) -> None:
        """Do nothing: the objects stay, so that the name can be opened again."""

    def _info(self, key: str, stored: _Object) -> ObjectInfo:
        return ObjectInfo(key, len(stored.data), max(0.0, self._clock() - stored.written_at))


_NAMED: dict[str, MemoryStore] = {}
_NAMED_LOCK = threading.Lock()
