"""A cache that the threads of one process share: driver threads, event listeners and the step that runs."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedCache(Generic[K, V]):
    """A thread-safe cache that drops the least recently used entry when it is full.

    Args:
        maxsize: the largest number of entries.
    """

    def __init__(self, maxsize: int) -> None:
        self._entries: LRUCache[K, V] = LRUCache(maxsize)
        self._lock = threading.Lock()  # a lookup reorders the entries of an LRUCache

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None if the cache does not contain it."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Add or replace an entry."""
        with self._lock:
            self._entries[key] = value

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
