"""A store on which another process acts between two calls, so that a test can try each place in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from workflow.store.memory import MemoryStore
from workflow.store.port import Allocate, Data, ObjectInfo


class InterleavedStore(MemoryStore):
    """A store that calls a function once, before a given call. The calls of that function itself are not counted.

    Args:
        clock: the clock of the store.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self._calls_left = -1
        self._act: Callable[[], object] | None = None

    def interrupt(self, calls: int, act: Callable[[], object]) -> None:
        """Call a function before a later call.

        Args:
            calls: how many calls of the store come first.
            act: the act of the other process.
        """
        self._calls_left, self._act = calls, act

    @property
    def interrupted(self) -> bool:
        """Whether the function was called."""
        return self._act is None

    def _count(self) -> None:
        if self._act is not None and self._calls_left >= 0:
            self._calls_left -= 1
            if self._calls_left < 0:
                act, self._act = self._act, None
                act()

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """Implement the port."""
        self._count()
        return super().create(key, data, put_id)

    def get(self, key: str) -> bytes | None:
        """Implement the port."""
        self._count()
        return super().get(key)

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """Implement the port."""
        self._count()
        return super().fetch(key, allocate)

    def head(self, key: str) -> ObjectInfo | None:
        """Implement the port."""
        self._count()
        return super().head(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Implement the port."""
        self._count()
        return super().list(prefix, start_after)

    def delete(self, key: str) -> None:
        """Implement the port."""
        self._count()
        super().delete(key)

    def overwrite(self, key: str, data: bytes) -> None:
        """Implement the port."""
        self._count()
        super().overwrite(key, data)
