"""The rules for keys, which are the same in every adapter.

Each adapter checks a key before it uses it. A key that one kind of store cannot hold is refused by all of them, also by
the store in memory. The same is true of a key that would leave the root of the store.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from workflow.errors import StoreRefusedError

LONGEST_KEY: Final = 800  # S3 allows 1024 bytes, with the prefix of the store's address
LONGEST_PART: Final = 255
RESERVED: Final = "#"
"""First character of the files that a folder store keeps for itself."""


def check_key(key: str) -> None:
    """Refuse a key that some kind of store cannot hold.

    Args:
        key: parts joined by `/`. A part has 1 to 255 bytes in UTF-8 and no control characters. It is not `.` or `..`,
            and does not start with `#`.

    Raises:
        StoreRefusedError: the text names the part that breaks a rule.
    """
    size = len(key.encode("utf-8", "surrogatepass"))
    if size > LONGEST_KEY:
        raise StoreRefusedError(f"the key {key!r} has {size} bytes, more than {LONGEST_KEY}; shorten it", key=key)
    for part in key.split("/"):
        problem = _problem_of(part)
        if problem:
            raise StoreRefusedError(
                f"the key {key!r} cannot be stored: its part {part!r} {problem}; use another key", key=key
            )


def _problem_of(part: str) -> str:
    """Return what is wrong with one part of a key, or an empty string."""
    if part in ("", ".", ".."):
        return "is empty or names a folder"
    if part.startswith(RESERVED):
        return f"starts with {RESERVED!r}"
    if not part.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in part):
        return "contains a control character or half of a surrogate pair"
    if len(part.encode()) > LONGEST_PART:
        return f"has more than {LONGEST_PART} bytes"
    return ""
