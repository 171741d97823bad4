"""What a key may look like, the same in every adapter.

Called by each adapter before it uses a key. It stands here so that a key which one kind of store cannot hold, or which
would leave the store's root, is refused by all of them, the one in memory too.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from workflow.errors import StoreRefusedError

LONGEST_KEY: Final = 800  # S3 holds 1024, the prefix of the store's address included
LONGEST_PART: Final = 255
RESERVED: Final = "#"


def check_key(key: str) -> None:
    """Refuse what no store can hold.

    Args:
        key: parts joined by `/`. A part is not empty, not `.` or `..`, has at most 255 bytes in UTF-8, no NUL and does
            not begin with `#`, which a folder's own files do.

    Raises:
        StoreRefused: the text says which part is wrong.
    """
    size = len(key.encode("utf-8", "surrogatepass"))
    if size > LONGEST_KEY:
        raise StoreRefusedError(f"the key {key!r} has {size} bytes, more than {LONGEST_KEY}; shorten it", key=key)
    for part in key.split("/"):
        wrong = _wrong_with(part)
        if wrong:
            raise StoreRefusedError(f"the key {key!r} cannot be stored: its part {part!r} {wrong}", key=key)


def _wrong_with(part: str) -> str:
    if part in ("", ".", ".."):
        return "is empty or names a folder"
    if part.startswith(RESERVED):
        return f"begins with {RESERVED!r}"
    if not part.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in part):
        return "holds a control character or half a surrogate pair"
    if len(part.encode()) > LONGEST_PART:
        return f"has more than {LONGEST_PART} bytes"
    return ""
