"""The store's port: all that the log asks of a place to keep bytes.

Owned by its user, the log. Adapters (S3, folder, memory) and wrappers (retrying, instrumented) implement it; one
contract suite, `workflow.testing.store_contract`, runs against every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object.

    Attributes:
        key: its whole key below the store's root.
        size: bytes.
        age: seconds since it was last written, by the store's own clock (its Last-Modified against its Date), so
            that no client's clock counts. Never negative.
    """

    key: str
    size: int
    age: float


class Pieces(Protocol):
    """Bytes that lie in several places; iterated from the start as often as they are sent."""

    def __len__(self) -> int:
        """All bytes together."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The pieces, in order; each is one-dimensional, of single bytes, and may be of any size."""


Data = bytes | Pieces
"""An object's content. Large content comes in pieces, of which an adapter must make no copy that is as large."""

Allocate = Callable[[int], memoryview]
"""Size in bytes -> writable room of that size."""


class Store(Protocol):
    """A flat space of keys, `/` between parts; safe to use from many threads at once.

    Every method raises `StoreUnavailable` where trying again may help and `StoreRefused` where it will not.
    """

    @property
    def url(self) -> str:
        """The address `open_store` takes to open the same store again; holds no secret."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """Write a new object; never touches one that exists.

        Args:
            key: where.
            data: the whole object.
            put_id: a random mark of this write, kept beside the object. Where the key exists and bears the same
                mark, an earlier try of this very write went through and its answer was lost.

        Returns:
            True where the object is there by this write; False where the key held another object already.
        """

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none. Raises `Corrupt` where the store itself sees damage."""

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """Read the object into the caller's memory; for what is large. Raises as `get` does.

        Args:
            key: where.
            allocate: gives room for the whole object. It is asked again where reading begins anew, and holds what was
                stored only after True was returned.

        Returns:
            False where there is none.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Size and age of one object, or None where there is none."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with prefix and sorts after `start_after`, in order of their keys (bytes).

        Pages are fetched as the iterator is consumed. The prefix is compared as a string: `a/b` also lists `a/bc`.
        """

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens where there is none."""

    def overwrite(self, key: str, data: bytes) -> None:
        """Write the object whether or not it exists. Only heartbeats are written so; they decide nothing safe."""

    def close(self) -> None:
        """Give back connections and threads; the store is not used afterwards."""
