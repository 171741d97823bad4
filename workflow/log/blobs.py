"""The blobs of a run: bytes named by their SHA-256. A blob is stored before the record that names it."""

from __future__ import annotations

import hashlib
import json

from workflow.errors import CorruptLogError
from workflow.log import segments
from workflow.log.failpoints import AFTER_BLOB, BEFORE_BLOB, NO_FAILPOINTS, Failpoints
from workflow.log.keys import RunPaths
from workflow.log.pickled import Fetched, Pickled
from workflow.model import codec
from workflow.model.graph import Graph, Value
from workflow.store.port import Store

INLINE_LIMIT = 64 * 1024
"""Size in bytes up to which a value or a DAG is part of its record; larger ones become blobs."""

HEAD_FIRST_LIMIT = 1024 * 1024
"""Size in bytes from which a HEAD request for an existing blob is cheaper than sending the blob a second time."""


class Blobs:
    """The blobs of one run; safe to use from many threads."""

    def __init__(self, store: Store, paths: RunPaths, failpoints: Failpoints = NO_FAILPOINTS) -> None:
        self._store = store
        self._paths = paths
        self._failpoints = failpoints

    def put(self, data: bytes | Pickled) -> str:
        """Store bytes as a blob. Equal bytes are one blob, even if several processes store them at once.

        Returns:
            The name of the blob: the SHA-256 of the bytes.

        Raises:
            InvalidInputError: the bytes were changed during the call; nothing is stored.
        """
        name = _name_of(data)
        key = self._paths.blob(name)
        if len(data) >= HEAD_FIRST_LIMIT and self._store.head(key) is not None:
            return name
        self._failpoints.reach(BEFORE_BLOB)
        self._store.create(key, data, name)
        self._failpoints.reach(AFTER_BLOB)
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes of a blob.

        Raises:
            CorruptLogError: the blob is missing, or its bytes have another SHA-256.
        """
        key = self._paths.blob(name)
        data = self._store.get(key)
        if data is None:
            raise _missing(key)
        _check(key, data, name)
        return data

    def fetch(self, name: str) -> Fetched:
        """Return a blob in memory of its own, ready to be unpickled; raises as `get` does."""
        key = self._paths.blob(name)
        fetched = Fetched()
        if not self._store.fetch(key, fetched.allocate):
            raise _missing(key)
        _check(key, fetched.view, name)
        return fetched

    def store_value(self, data: bytes | Pickled) -> Value:
        """Return a pickle as a Value for a record. A pickle above `INLINE_LIMIT` is stored as a blob."""
        if isinstance(data, bytes) and len(data) <= INLINE_LIMIT:
            return Value(inline=data, size=len(data))
        return Value(blob=self.put(data), size=len(data))

    def load_value(self, value: Value) -> bytes | Fetched:
        """Return the pickle of a Value; raises as `get` does."""
        return value.inline if value.inline is not None else self.fetch(value.blob)

    def store_graph(self, graph: Graph) -> tuple[Graph | None, str]:
        """Prepare a DAG for a record. A DAG above `INLINE_LIMIT` is stored as a blob.

        Returns:
            The DAG and an empty string if it is part of the record; otherwise None and the name of its blob.
        """
        data = json.dumps(codec.encode_graph(graph), separators=(",", ":")).encode("ascii")
        if len(data) <= INLINE_LIMIT:
            return graph, ""
        return None, self.put(data)

    def load_graph(self, graph: Graph | None, blob: str) -> Graph:
        """Return the DAG of a record.

        Args:
            graph: the DAG, if it is part of the record.
            blob: the name of its blob otherwise.

        Raises:
            CorruptLogError: the blob is missing or damaged.
            NewerFormatError: a newer version of the library wrote the blob.
        """
        if graph is not None:
            return graph
        data = self.get(blob)
        try:
            return codec.decode_graph(json.loads(data))
        except codec.UnknownNameError as error:
            raise segments.newer(self._paths.blob(blob), str(error), "") from error


def _name_of(data: bytes | Pickled) -> str:
    return data.sha256 if isinstance(data, Pickled) else hashlib.sha256(data).hexdigest()


def _missing(key: str) -> CorruptLogError:
    return CorruptLogError(f"blob {key} is missing, but the log names it; restore it from a copy", key=key)


def _check(key: str, data: bytes | memoryview, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != name:
        raise CorruptLogError(f"{key} is damaged: the SHA-256 of its {len(data)} bytes is not its name", key=key)
