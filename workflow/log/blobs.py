"""The blobs of a run: bytes named by their SHA-256. A blob is stored before the record that names it.

A pickle with large parts is several blobs: one for each large part, and one with the list of the parts. So a large part
is stored once, whatever values it is part of.
"""

from __future__ import annotations

import hashlib
import json

from workflow.errors import CorruptLogError
from workflow.log import parts, segments
from workflow.log.damage import damaged
from workflow.log.failpoints import AFTER_BLOB, BEFORE_BLOB, NO_FAILPOINTS, Failpoints
from workflow.log.keys import RunPaths
from workflow.log.parts import PartList, StoredPart
from workflow.log.pickled import OUT_OF_BAND_LIMIT, Fetched, Part, Pickled
from workflow.model import codec
from workflow.model.graph import Graph, Value
from workflow.store.port import Allocate, Store

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
        """Store bytes, or a pickle. Equal bytes are one blob, even if several processes store them at once.

        Returns:
            The name of the blob: the SHA-256 of the bytes, or of the list of the parts of the pickle.

        Raises:
            InvalidInputError: the bytes were changed during the call. Nothing names what is stored of them.
        """
        if isinstance(data, bytes):
            return self._put(data)
        if len(data.parts) == 1:
            return self._put(data.parts[0])
        return self._put(self._put_parts(data).encoded())

    def _put_parts(self, data: Pickled) -> PartList:
        """Store the large parts of a pickle, and return the list of all parts."""
        stored: list[StoredPart] = []
        inline: list[bytes | memoryview] = []
        place = 0
        for part in data.parts:
            if len(part) >= OUT_OF_BAND_LIMIT:
                stored.append(StoredPart(place, len(part), self._put(part)))
            else:
                inline += part
            place += len(part)
        return PartList(place, stored, b"".join(inline))

    def _put(self, data: bytes | Part) -> str:
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
        """Return a pickle in memory of its own, ready to be unpickled.

        Raises:
            CorruptLogError: its blob or one of its parts is missing or damaged.
            NewerFormatError: a newer version of the library wrote it.
        """
        fetched = Fetched()
        self._fetch(name, fetched.allocate)
        if not parts.is_list(fetched.view):
            return fetched
        return self._joined(parts.decoded(fetched.view, self._paths.blob(name)))

    def _joined(self, listed: PartList) -> Fetched:
        """Read all parts of a pickle into their places."""
        whole = Fetched()
        memory = whole.allocate(listed.size)
        taken = 0
        for place, size in listed.gaps():
            memory[place : place + size] = listed.inline[taken : taken + size]
            taken += size
        for part in listed.parts:
            self._fetch_part(part, memory[part.start : part.end])
        return whole

    def _fetch_part(self, part: StoredPart, memory: memoryview) -> None:
        def allocate(size: int) -> memoryview:
            if size != part.size:
                raise _damaged(self._paths.blob(part.sha256), size)
            return memory

        self._fetch(part.sha256, allocate)

    def _fetch(self, name: str, allocate: Allocate) -> None:
        """Read a blob into memory, and verify it."""
        key = self._paths.blob(name)
        memory = memoryview(b"")

        def remember(size: int) -> memoryview:
            nonlocal memory
            memory = allocate(size)
            return memory

        if not self._store.fetch(key, remember):
            raise _missing(key)
        _check(key, memory, name)

    def store_value(self, data: bytes | Pickled) -> Value:
        """Return a pickle as a Value for a record. A pickle above `INLINE_LIMIT` is stored as a blob."""
        if isinstance(data, bytes) and len(data) <= INLINE_LIMIT:
            return Value(inline=data, size=len(data))
        return Value(blob=self.put(data), size=len(data))

    def load_value(self, value: Value) -> bytes | Fetched:
        """Return the pickle of a Value; raises as `fetch` does."""
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


def _name_of(data: bytes | Part) -> str:
    return data.sha256 if isinstance(data, Part) else hashlib.sha256(data).hexdigest()


def _missing(key: str) -> CorruptLogError:
    return CorruptLogError(
        f"blob {key} is missing, but the log names it; restore it from a copy", key=key, missing=True
    )


def _check(key: str, data: bytes | memoryview, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != name:
        raise _damaged(key, len(data))


def _damaged(key: str, size: int) -> CorruptLogError:
    return damaged(key, f"the SHA-256 of its {size} bytes is not its name")
