"""Large pickles without copies: in pieces where they lie on the way out, in memory of their own on the way in.

Called by `values` and `blobs`. A blob is a plain pickle, or, where the value has large buffers (arrays, tables), a
head, the pickle, and the buffers beside it. A value stands in memory once: what is sent is read from where it lies, and
what was fetched goes back to the system block by block as it is read, or is what the value's own buffers point into.
"""

from __future__ import annotations

import functools
import hashlib
import io
import mmap
import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from workflow.errors import InvalidInputError

BESIDE: Final = 1 << 20
"""Bytes from which a buffer stands beside its pickle, and a pickle in pieces."""

_BLOCK: Final = 1 << 20
_GIVEN_BACK: Final = 4 << 20
"""Bytes that are given back to the system at once: whole pages, huge ones too."""

_MAGIC: Final = b"rwf-buf\n"
_NUMBER: Final = struct.Struct("<Q")
_ALIGNED: Final = 64


class Pickled:
    """The bytes of a large pickle, in pieces: see `workflow.store.port.Pieces`.

    Attributes:
        sha256: of all of them, when it was first asked for. Who iterates gets just those bytes, or an Invalid before
            the last of them: a thread of the user's may still write into an array that is being stored.
    """

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = parts
        self._size = sum(len(part) for part in parts)
        self._fixed = all(isinstance(part, bytes) for part in parts)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        if self._fixed:
            yield from self._parts
            return
        sent = hashlib.sha256()
        last: bytes | memoryview = b""
        for block in self._blocks():
            sent.update(block)
            if last:
                yield last
            last = block
        if sent.hexdigest() != self.sha256:
            raise InvalidInputError(
                "the value was changed while it was stored; return what no other thread writes into"
            )
        yield last

    @functools.cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[bytes | memoryview]:
        """What may change is copied block by block, so that what is hashed is what is sent."""
        for part in self._parts:
            view = memoryview(part)
            for start in range(0, len(view), _BLOCK):
                block = view[start : start + _BLOCK]
                yield block if isinstance(part, bytes) else bytes(block)


class Sink:
    """Takes what a pickler writes, and the buffers beside it, without copying what is large."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._beside: list[memoryview] = []

    def write(self, data: bytes | bytearray | pickle.PickleBuffer) -> int:
        """A pickler's file: it hands over large objects themselves."""
        part = data if isinstance(data, bytes) else pickle.PickleBuffer(data).raw()
        self._parts.append(part)
        return len(part)

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """A pickler's buffer_callback: true where the buffer belongs into the pickle."""
        view = buffer.raw()
        if len(view) < BESIDE:
            return True
        self._beside.append(view)
        return False

    def result(self) -> bytes | Pickled:
        """What was written; plain bytes where they are few."""
        if self._beside:
            return Pickled(_laid_out(self._parts, self._beside))
        whole = Pickled(self._parts)
        return whole if len(whole) >= BESIDE else b"".join(self._parts)


class Fetched:
    """A blob in memory of its own."""

    def __init__(self) -> None:
        self._size = 0
        self._memory = _room(0)

    @classmethod
    def of(cls, pieces: Pickled) -> Fetched:
        """A copy of what is not stored."""
        made = cls()
        view = made.allocate(len(pieces))
        at = 0
        for piece in pieces:
            view[at : at + len(piece)] = piece
            at += len(piece)
        return made

    def allocate(self, size: int) -> memoryview:
        """Room for the blob; the same once more where reading begins anew. Raises MemoryError."""
        if size != self._size:
            self._memory = _room(size)
            self._size = size
        return self.view

    @property
    def view(self) -> memoryview:
        """The blob's bytes."""
        return memoryview(self._memory)[: self._size]

    def load(self) -> Any:
        """Unpickle it, once: what was read is gone. Its buffers live as long as anything that points into them."""
        view = self.view
        if len(view) < BESIDE:
            return pickle.loads(view)
        if bytes(view[: len(_MAGIC)]) != _MAGIC:
            return self._load(0, len(view), [])
        (count,) = _NUMBER.unpack_from(view, len(_MAGIC))
        at = len(_MAGIC) + _NUMBER.size
        sizes = [size for (size,) in _NUMBER.iter_unpack(view[at : at + count * _NUMBER.size])]
        at += count * _NUMBER.size
        places = []
        for size in sizes:
            at += -at % _ALIGNED
            places.append((at, at + size))
            at += size
        return self._load(*places[0], [view[start:end] for start, end in places[1:]])

    def _load(self, start: int, end: int, buffers: list[memoryview]) -> Any:
        with io.BufferedReader(_Draining(self._memory, start, end), _BLOCK) as file:
            return pickle.load(file, buffers=buffers)


def _room(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # which a store would take for its own
        raise MemoryError(f"no memory for a value of {size} bytes: {error}") from error


class _Draining(io.RawIOBase):
    """A file over memory that is given back to the system as it is read."""

    def __init__(self, memory: mmap.mmap, start: int, end: int) -> None:
        self._memory = memory
        self._view = memoryview(memory)
        self._at = start
        self._end = end
        self._gone = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        size = min(len(target), self._end - self._at, _GIVEN_BACK)
        target[:size] = self._view[self._at : self._at + size]
        self._at += size
        gone = self._at - self._at % _GIVEN_BACK
        if gone > self._gone:
            self._memory.madvise(mmap.MADV_DONTNEED, self._gone, gone - self._gone)
            self._gone = gone
        return size


def _laid_out(parts: Sequence[bytes | memoryview], beside: Sequence[memoryview]) -> list[bytes | memoryview]:
    """Magic, how many sizes, the sizes of pickle and buffers; then each of these, aligned as arrays want it."""
    sizes = [sum(len(part) for part in parts), *(len(buffer) for buffer in beside)]
    head = _MAGIC + b"".join(_NUMBER.pack(number) for number in (len(sizes), *sizes))
    laid = [head, _padding(len(head)), *parts, _padding(sizes[0])]
    for buffer in beside:
        laid += [buffer, _padding(len(buffer))]
    return laid


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNED)
