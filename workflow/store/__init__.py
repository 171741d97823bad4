"""Where logs and values lie: the port, its adapters and wrappers."""

from workflow.store.opening import open_store
from workflow.store.port import ObjectInfo, Store

__all__ = ["ObjectInfo", "Store", "open_store"]
