"""A value as it was when `.step()` was called: its pickle, in parts that equal values of other steps share."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from workflow.errors import InvalidInputError
from workflow.log.pickled import OUT_OF_BAND_LIMIT, Part, Pickled, joined
from workflow.model.graph import TakenValue

SHARED_FROM: Final = 1024
"""Size in bytes from which equal pieces of pickles share memory."""

SPLIT_SIZE: Final = 4096
"""Size in bytes of what the first and the last piece of a pickle are split into."""

_lock = threading.RLock()  # the garbage collector may run code of the user, which may call `.step()`
_by_content: weakref.WeakValueDictionary[str, Part] = weakref.WeakValueDictionary()
"""SHA-256 -> immutable bytes that composed steps refer to."""

_by_identity: weakref.WeakValueDictionary[int, Part] = weakref.WeakValueDictionary()
"""Id of a large `bytes` object -> the part that consists of it, and keeps its id from being reused."""


@dataclass(frozen=True, eq=False)
class Taken(TakenValue):
    """A value as it was when `.step()` was called.

    Attributes:
        parts: its pickle, with marks for the composed steps in it.
        kept: placeholder -> Ray object. The name of the blob with its content replaces the placeholder in a run.
        buffers: SHA-256 of each buffer that was not copied -> its place in the value.
        captured: large values in a function that was taken once for several calls. They must not change.
        captured_sha256: the digest of their pickle.
        actors: the names of the classes of the actors whose handles a function contains.
    """

    parts: tuple[Part, ...]
    kept: Mapping[str, Any] = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    captured: tuple[Any, ...] = ()
    captured_sha256: str = ""
    actors: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The size of the pickle in bytes."""
        return sum(len(part) for part in self.parts)

    @property
    def sha256(self) -> str:
        """A digest of the pickle."""
        return hashlib.sha256("".join(part.sha256 for part in self.parts).encode()).hexdigest()

    def pickled(self, names: Mapping[str, str]) -> bytes | Pickled:
        """Return the pickle.

        Args:
            names: the name of the blob for each placeholder in `kept`.
        """
        return joined([_replaced(part, names) for part in self.parts] if names else self.parts)

    def changed(self, what: str, error: InvalidInputError) -> InvalidInputError | None:
        """Return the error for a buffer that changed; None if the error has another reason.

        Args:
            what: what was taken, for example `arguments of step 'x'`.
            error: what was raised while the value was stored.
        """
        place = self.buffers.get(error.fields.get("part", ""))
        return changed(what, place) if place is not None else None


def changed(what: str, place: str) -> InvalidInputError:
    """Return the error for a large value that changed between `.step()` and `.run()`.

    Args:
        what: what was taken, for example `arguments of step 'x'`.
        place: which part of it changed.
    """
    return InvalidInputError(
        f"{what}: {place} was changed after .step() was called: values of {OUT_OF_BAND_LIMIT >> 20} MiB and more are "
        "not copied, and must not change until .run() has stored them; pass a copy to .step(), or make the change "
        "after .run()"
    )


def shared_parts(pieces: Sequence[bytes | memoryview], *, may_split: bool) -> Iterator[Part]:
    """Yield pieces of a pickle as parts. Immutable parts with equal bytes are one object in this process.

    Args:
        pieces: the pickle.
        may_split: whether pieces may be split, so that more is shared. Placeholders must stay whole.
    """
    small: list[bytes] = []
    for piece in _finer(pieces) if may_split else pieces:
        if isinstance(piece, bytes) and len(piece) < SHARED_FROM:
            small.append(piece)
            continue
        if small:
            yield Part([b"".join(small)])
            small = []
        yield _shared(piece) if isinstance(piece, bytes) else Part([piece])
    if small:
        yield Part([b"".join(small)])


def _finer(pieces: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Split the first and the last piece. Values that differ in a number differ there, before or after a large list."""
    for index, piece in enumerate(pieces):
        if index in (0, len(pieces) - 1) and isinstance(piece, bytes) and len(piece) < OUT_OF_BAND_LIMIT:
            yield from (piece[start : start + SPLIT_SIZE] for start in range(0, len(piece), SPLIT_SIZE))
        else:
            yield piece


def _shared(piece: bytes) -> Part:
    with _lock:
        known = _by_identity.get(id(piece))
    if known is not None and known.pieces[0] is piece:
        return known
    part = Part([piece])
    sha256 = part.sha256
    with _lock:
        part = _by_content.setdefault(sha256, part)
        if part.pieces[0] is piece and len(piece) >= OUT_OF_BAND_LIMIT:
            _by_identity[id(piece)] = part
    return part


def _replaced(part: Part, names: Mapping[str, str]) -> Part:
    """Return a part with the names of blobs instead of placeholders."""
    if not part.is_immutable:
        return part
    data = b"".join(part)
    replaced = data
    for placeholder, name in names.items():
        replaced = replaced.replace(placeholder.encode(), name.encode())
    return part if replaced == data else Part([replaced])
