"""What tests of code that uses this library need: stores that fail on purpose, and the contract of all stores."""

from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore
from workflow.testing.store_contract import StoreContract

__all__ = ["FailingStore", "MemoryStore", "StoreContract"]
