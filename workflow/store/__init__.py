"""Storage of logs and values: the `Store` port, its adapters and its wrappers."""

from workflow.store.opening import open_store
from workflow.store.port import Allocate, Data, ObjectInfo, Pieces, Store

__all__ = ["Allocate", "Data", "ObjectInfo", "Pieces", "Store", "open_store"]
