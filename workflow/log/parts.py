"""The list of the parts of a large pickle: the content of its blob, if large parts are blobs of their own.

The list begins with its format, the size of its header and a line feed. The header, a JSON object, follows, and then
the bytes of the pickle that are in no large part. The pickle of a value never begins with the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from workflow.log import segments
from workflow.log.damage import damaged

FORMAT_NAME: Final = b"rwf-parts-"
FORMAT: Final = FORMAT_NAME + b"1"

_FIELDS: Final = frozenset({"size", "parts"})
_LONGEST_FIRST_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of a pickle that is a blob of its own.

    Attributes:
        start: its place in the pickle.
        size: its number of bytes.
        sha256: the name of its blob.
    """

    start: int
    size: int
    sha256: str

    @property
    def end(self) -> int:
        """The place after its last byte."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class PartList:
    """The parts of one pickle.

    Attributes:
        size: number of bytes of the whole pickle.
        parts: the parts that are blobs, in order.
        inline: all other bytes, in order.
    """

    size: int
    parts: Sequence[StoredPart]
    inline: bytes | memoryview

    def encoded(self) -> bytes:
        """Return the bytes of the list's blob."""
        parts = [[part.start, part.size, part.sha256] for part in self.parts]
        header = json.dumps({"size": self.size, "parts": parts}, separators=(",", ":")).encode("ascii")
        return b"%s %d\n%s%s" % (FORMAT, len(header), header, self.inline)

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Yield the place in the pickle, and the size, of what is before each part and after the last one."""
        place = 0
        for part in self.parts:
            yield place, part.start - place
            place = part.end
        yield place, self.size - place


def is_list(data: memoryview) -> bool:
    """Return whether a blob is a list of parts, of any version."""
    return bytes(data[: len(FORMAT_NAME)]) == FORMAT_NAME


def decoded(data: memoryview, key: str) -> PartList:
    """Return a list of parts. Its SHA-256 was verified before.

    Args:
        data: the content of its blob.
        key: the key of its blob, for error messages.

    Raises:
        NewerFormatError: a newer version of the library wrote it.
        CorruptLogError: its sizes do not fit.
    """
    first, _, _ = bytes(data[:_LONGEST_FIRST_LINE]).partition(b"\n")
    format_name, _, header_size = first.partition(b" ")
    if format_name != FORMAT:
        raise segments.newer(key, f"the format {format_name.decode('ascii', 'replace')!r} of a list of parts", "")
    start = len(first) + 1
    end = start + int(header_size)
    fields = json.loads(bytes(data[start:end]))
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        raise segments.newer(key, f"the field {unknown[0]!r} of a list of parts", "")
    found = PartList(fields["size"], [StoredPart(*each) for each in fields["parts"]], data[end:])
    sizes = [size for _, size in found.gaps()]
    if min(sizes) < 0 or sum(sizes) != len(found.inline):
        raise damaged(key, f"its parts do not fill {found.size} bytes")
    return found
