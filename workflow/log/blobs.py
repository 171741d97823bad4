"""Blobs: bytes named by their sha256, below one run's folder. Written before the record that names them."""

from __future__ import annotations

import hashlib
import json

from workflow.errors import CorruptLogError
from workflow.log.failpoints import AFTER_BLOB, BEFORE_BLOB, NO_FAILPOINTS, Failpoints
from workflow.log.keys import RunPaths
from workflow.log.pickled import Fetched, Pickled
from workflow.model import codec
from workflow.model.graph import Graph, Value
from workflow.store.port import Store

INLINE = 64 * 1024
"""Bytes up to which a value stands in its record."""

ASK_FIRST = 1024 * 1024
"""Bytes from which asking whether a blob exists is cheaper than sending it once more."""


class Blobs:
    """The blobs of one run; safe to use from many threads."""

    def __init__(self, store: Store, paths: RunPaths, failpoints: Failpoints = NO_FAILPOINTS) -> None:
        self._store = store
        self._paths = paths
        self._points = failpoints

    def put(self, data: bytes | Pickled) -> str:
        """Store bytes once, whoever else stores the same.

        Returns:
            Their sha256, which is their name.

        Raises:
            Invalid: they were changed meanwhile; nothing is stored.
        """
        name = _name_of(data)
        key = self._paths.blob(name)
        if len(data) >= ASK_FIRST and self._store.head(key) is not None:
            return name
        self._points.reach(BEFORE_BLOB)
        self._store.create(key, data, name)
        self._points.reach(AFTER_BLOB)
        return name

    def get(self, name: str) -> bytes:
        """The bytes of a blob.

        Raises:
            Corrupt: it is missing, or its bytes are not those that were stored.
        """
        key = self._paths.blob(name)
        data = self._store.get(key)
        if data is None:
            raise _missing(key)
        _check(key, data, name)
        return data

    def fetch(self, name: str) -> Fetched:
        """A blob in memory of its own, to be unpickled; raises as `get` does."""
        key = self._paths.blob(name)
        fetched = Fetched()
        if not self._store.fetch(key, fetched.allocate):
            raise _missing(key)
        _check(key, fetched.view, name)
        return fetched

    def keep(self, data: bytes | Pickled) -> Value:
        """A pickle as a Value: inline where small, else stored as a blob."""
        if isinstance(data, bytes) and len(data) <= INLINE:
            return Value(inline=data, size=len(data))
        return Value(blob=self.put(data), size=len(data))

    def load(self, value: Value) -> bytes | Fetched:
        """The pickle of a Value; raises Corrupt."""
        return value.inline if value.inline is not None else self.fetch(value.blob)

    def keep_graph(self, graph: Graph) -> tuple[Graph | None, str]:
        """A DAG for a record: itself where small, else None and the name of the blob that holds it."""
        data = json.dumps(codec.encode_graph(graph), separators=(",", ":")).encode("ascii")
        if len(data) <= INLINE:
            return graph, ""
        return None, self.put(data)

    def load_graph(self, graph: Graph | None, blob: str) -> Graph:
        """The DAG that a record holds or names; raises Corrupt."""
        return graph if graph is not None else codec.decode_graph(json.loads(self.get(blob)))


def _name_of(data: bytes | Pickled) -> str:
    return data.sha256 if isinstance(data, Pickled) else hashlib.sha256(data).hexdigest()


def _missing(key: str) -> CorruptLogError:
    return CorruptLogError(f"{key}: this blob is named by the log and missing", key=key)


def _check(key: str, data: bytes | memoryview, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != name:
        raise CorruptLogError(f"{key}: damaged: {len(data)} bytes whose sha256 is not its name", key=key)
