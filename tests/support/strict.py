"""A store in memory that refuses what a real store could not handle."""

from __future__ import annotations

from workflow.store.memory import MemoryStore
from workflow.store.port import Data


class StrictStore(MemoryStore):
    """Refuses a write without a put id: its writer could not recognize it after a lost reply."""

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """Implement the port."""
        assert isinstance(put_id, str)
        assert put_id
        return super().create(key, data, put_id)
