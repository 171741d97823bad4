"""Large pickles without copies in memory. Used by `values` and `blobs`.

A pickle is plain, or, if the value has large buffers (arrays, tables), a header, the pickle and its out-of-band
buffers. It consists of parts, and `blobs` stores each large part once, by its content. A value is in memory once: what
is sent is read from the memory of the value. While a fetched pickle is unpickled, its memory is returned to the system
block by block. The memory of the buffers is kept.
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

OUT_OF_BAND_LIMIT: Final = 1 << 20
"""Size in bytes from which a buffer is stored outside its pickle, and a pickle is kept in parts."""

SPLIT_FROM: Final = 4 << 20
"""Size in bytes from which a pickle of small pieces, for example of a large list, is split into parts."""

_RUNS_OF_ONE_SIZE: Final = 16
"""Number of parts of small pieces in a row after which these parts become twice as large."""

_BLOCK: Final = 1 << 20
_RELEASE_SIZE: Final = 4 << 20
"""Bytes that are returned to the system at once: whole pages, including huge ones."""

_MAGIC: Final = b"rwf-buf\n"
_NUMBER: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 64


class Part:
    """Bytes in a row of a pickle, in pieces; see `workflow.store.port.Pieces`.

    Args:
        pieces: the bytes. A `memoryview` may refer to memory that other threads change; `bytes` never change.
    """

    def __init__(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.pieces = pieces
        self._size = sum(len(piece) for piece in pieces)
        self.is_immutable = all(isinstance(piece, bytes) for piece in pieces)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes whose SHA-256 is `sha256`.

        Raises:
            InvalidInputError: a buffer was changed since `sha256` was computed; the last piece is missing. Its field
                `part` is that SHA-256.
        """
        if self.is_immutable:
            yield from self.pieces
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
                "the value was changed while it was stored; pass or return a value that no other thread writes to",
                part=self.sha256,
            )
        yield last

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of all bytes, as they were when this was first read."""
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes in blocks. Memory that may change is copied, so that the same bytes are hashed and sent."""
        for piece in self.pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _BLOCK):
                block = view[start : start + _BLOCK]
                yield block if isinstance(piece, bytes) else bytes(block)


class Pickled:
    """The bytes of a large pickle.

    Args:
        pieces: the bytes, in order. Each large piece becomes a part of its own.

    Attributes:
        parts: the same bytes. If there is more than one part, those of at least `OUT_OF_BAND_LIMIT` bytes are stored
            by their content.
    """

    def __init__(self, pieces: Sequence[bytes | memoryview | Part]) -> None:
        self.parts = _grouped([piece if isinstance(piece, Part) else Part([piece]) for piece in pieces])

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes; raises as `Part.__iter__` does."""
        for part in self.parts:
            yield from part


def whole(data: bytes | Pickled) -> bytes:
    """Return all bytes of a pickle in one object."""
    return data if isinstance(data, bytes) else b"".join(data)


def joined(pieces: Sequence[bytes | memoryview | Part]) -> bytes | Pickled:
    """Return a pickle that is given in pieces; as plain bytes if it is shorter than `OUT_OF_BAND_LIMIT`."""
    if sum(map(len, pieces)) >= OUT_OF_BAND_LIMIT:
        return Pickled(pieces)
    return b"".join([each for piece in pieces for each in (piece.pieces if isinstance(piece, Part) else (piece,))])


def _grouped(pieces: Sequence[Part]) -> tuple[Part, ...]:
    """Join small pieces.

    The end of a part depends only on what is before it, so that equal beginnings have equal parts. Parts of small
    pieces become larger, so that a large pickle has few of them.
    """
    if sum(map(len, pieces)) < SPLIT_FROM and all(len(piece) < OUT_OF_BAND_LIMIT for piece in pieces):
        return (_joined(pieces),)
    groups: list[list[Part]] = [[]]
    size = runs = 0
    for piece in pieces:
        if len(piece) >= OUT_OF_BAND_LIMIT:
            groups += [[piece], []]
            size = runs = 0
            continue
        groups[-1].append(piece)
        size += len(piece)
        if size >= OUT_OF_BAND_LIMIT << runs // _RUNS_OF_ONE_SIZE:
            groups.append([])
            size = 0
            runs += 1
    return tuple(_joined(group) for group in groups if group)


def _joined(parts: Sequence[Part]) -> Part:
    return parts[0] if len(parts) == 1 else Part([piece for part in parts for piece in part.pieces])


class PickleWriter:
    """Collects the output of a pickler and its out-of-band buffers, without copying large objects."""

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self._buffers: list[memoryview] = []

    def write(self, data: bytes | bytearray | pickle.PickleBuffer) -> int:
        """Take output of the pickler, which passes large objects themselves; this makes it usable as its file."""
        piece = data if isinstance(data, bytes) else pickle.PickleBuffer(data).raw()
        self._pieces.append(piece)
        return len(piece)

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer; this is the pickler's `buffer_callback`. Returns True if the buffer must be in the pickle."""
        view = buffer.raw()
        if len(view) < OUT_OF_BAND_LIMIT:
            return True
        self._buffers.append(view)
        return False

    def pieces(self) -> list[bytes | memoryview]:
        """Return the bytes in pieces: a plain pickle, or the form with out-of-band buffers."""
        return _with_buffers(self._pieces, self._buffers) if self._buffers else self._pieces

    def result(self) -> bytes | Pickled:
        """Return the bytes; as plain bytes if they are fewer than `OUT_OF_BAND_LIMIT`."""
        return joined(self.pieces())


class Fetched:
    """A pickle in memory of its own."""

    def __init__(self) -> None:
        self._size = 0
        self._memory = _allocate(0)

    @classmethod
    def copy_of(cls, pieces: Pickled) -> Fetched:
        """Return a copy of a pickle that is not stored."""
        made = cls()
        view = made.allocate(len(pieces))
        at = 0
        for piece in pieces:
            view[at : at + len(piece)] = piece
            at += len(piece)
        return made

    def allocate(self, size: int) -> memoryview:
        """Return writable memory for the pickle. A repeated call with the same size returns the same memory.

        Raises:
            MemoryError: the system has not enough memory.
        """
        if size != self._size:
            self._memory = _allocate(size)
            self._size = size
        return self.view

    @property
    def view(self) -> memoryview:
        """The bytes of the pickle."""
        return memoryview(self._memory)[: self._size]

    def load(self) -> Any:
        """Unpickle it. This works once, because the memory of the pickle is returned to the system.

        The memory of out-of-band buffers is kept as long as an object refers to it.
        """
        view = self.view
        if len(view) < OUT_OF_BAND_LIMIT:
            return pickle.loads(view)
        if bytes(view[: len(_MAGIC)]) != _MAGIC:
            return self._load(0, len(view), [])
        (count,) = _NUMBER.unpack_from(view, len(_MAGIC))
        at = len(_MAGIC) + _NUMBER.size
        sizes = [size for (size,) in _NUMBER.iter_unpack(view[at : at + count * _NUMBER.size])]
        at += count * _NUMBER.size
        places = []
        for size in sizes:
            at += -at % _ALIGNMENT
            places.append((at, at + size))
            at += size
        return self._load(*places[0], [view[start:end] for start, end in places[1:]])

    def _load(self, start: int, end: int, buffers: list[memoryview]) -> Any:
        with io.BufferedReader(_ReleasingReader(self._memory, start, end), _BLOCK) as file:
            return pickle.load(file, buffers=buffers)


def _allocate(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # a store would treat an OSError as its own failure
        raise MemoryError(f"no memory for a value of {size} bytes: {error}") from error


class _ReleasingReader(io.RawIOBase):
    """Reads a part of a memory map as a file, and returns the pages that were read to the system."""

    def __init__(self, memory: mmap.mmap, start: int, end: int) -> None:
        self._memory = memory
        self._view = memoryview(memory)
        self._at = start
        self._end = end
        self._released = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        size = min(len(target), self._end - self._at, _RELEASE_SIZE)
        target[:size] = self._view[self._at : self._at + size]
        self._at += size
        read = self._at - self._at % _RELEASE_SIZE
        if read > self._released:
            self._memory.madvise(mmap.MADV_DONTNEED, self._released, read - self._released)
            self._released = read
        return size


def _with_buffers(pickled: Sequence[bytes | memoryview], buffers: Sequence[memoryview]) -> list[bytes | memoryview]:
    """Return a header (magic, number of sizes, sizes), the pickle and the buffers, each aligned for arrays."""
    sizes = [sum(len(piece) for piece in pickled), *(len(buffer) for buffer in buffers)]
    header = _MAGIC + b"".join(_NUMBER.pack(number) for number in (len(sizes), *sizes))
    pieces = [header, _padding(len(header)), *pickled, _padding(sizes[0])]
    for buffer in buffers:
        pieces += [buffer, _padding(len(buffer))]
    return pieces


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)
