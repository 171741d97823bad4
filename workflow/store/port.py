"""The store port: all operations that the log needs from a storage system.

The log owns this interface. Adapters (S3, folder, memory) and wrappers (retrying, instrumented) implement it. The
contract tests in `workflow.testing.store_contract` run against all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Metadata of one stored object.

    Attributes:
        key: full key below the root of the store.
        size: number of bytes.
        age: seconds since the last write, by the clock of the store (Last-Modified against Date). The clocks of clients
            do not matter. Never negative.
    """

    key: str
    size: int
    age: float


class Pieces(Protocol):
    """Bytes in several buffers. A store iterates over them from the start for each attempt to send them."""

    def __len__(self) -> int:
        """Return the total number of bytes."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the pieces in order. Each is one-dimensional, of single bytes, and of any size."""


Data = bytes | Pieces
"""The content of an object. Large content comes in pieces; an adapter must not copy it into one buffer."""

Allocate = Callable[[int], memoryview]
"""Returns a writable buffer of the given number of bytes."""


class Store(Protocol):
    """A flat space of keys, with `/` between their parts. Many threads may use one store at once.

    Every method raises `StoreUnavailableError` if a retry may help, and `StoreRefusedError` if it cannot.
    """

    @property
    def url(self) -> str:
        """The address with which `open_store` opens the same store again. It contains no secret."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """Write a new object. Never change an object that exists.

        Args:
            key: the key of the new object.
            data: the whole content.
            put_id: a random mark of this write, stored with the object. If the key exists with the same put id, an
                earlier attempt of the same write succeeded and its reply was lost.

        Returns:
            True if this write made the object. False if the key already held another object.
        """

    def get(self, key: str) -> bytes | None:
        """Return the content of an object, or None if there is no such object.

        Raises:
            CorruptLogError: the store itself found the object damaged.
        """

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """Read a large object directly into memory of the caller. Raises the same errors as `get`.

        Args:
            key: the key of the object.
            allocate: returns a buffer for the whole object. It is called again if the read is retried. The buffer is
                valid only after this method returned True.

        Returns:
            False if there is no such object.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Return the metadata of one object, or None if there is no such object."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects whose key starts with the prefix and sorts after `start_after`, in byte order of the keys.

        Pages are fetched while the iterator is consumed. The prefix is plain text: `a/b` also matches `a/bc`.
        """

    def delete(self, key: str) -> None:
        """Remove the object. Do nothing if there is no such object."""

    def overwrite(self, key: str, data: bytes) -> None:
        """Write the object, whether or not it exists. Only heartbeats use this; no promise depends on them."""

    def close(self) -> None:
        """Release connections and threads. The store must not be used afterwards."""
