"""Tools for tests of code that uses this library: a store that fails on purpose, and the contract of all stores."""

from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore
from workflow.testing.store_contract import StoreContract

__all__ = ["FailingStore", "MemoryStore", "StoreContract"]
