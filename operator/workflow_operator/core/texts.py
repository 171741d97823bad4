"""Bounds the texts that people read: whole words, the cause first, and then the end of the text.

Conditions, events, failures and errors of the adapters use `clip`. So a message never begins or ends within a word, and
the error of a traceback is never cut off.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

TEXT_LIMIT = 4000
"""Longest message of a condition, in characters."""

_TRACEBACK = "Traceback (most recent call last):"
_ERROR = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Group|Timeout|Warning)\b")
_NAMED = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?::|$)")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"\s")


def clip(text: str, limit: int = TEXT_LIMIT) -> str:
    """Shorten a text: keep its first line or words, an ellipsis, and its last lines or words.

    A traceback begins with its cause. A word is cut only if it is longer than half of the space.

    Args:
        text: the text; a text that is short enough is returned unchanged.
        limit: the maximum length of the result, in characters.
    """
    if len(text) <= limit:
        return text
    text = cause_first(text)
    separator = "\n...\n" if "\n" in text else " ... "
    first = _beginning(text.partition("\n")[0], limit // 2)
    return f"{first}{separator}{_end(text, limit - len(first) - len(separator))}"


def cause_first(text: str) -> str:
    """Move the cause of a traceback or of a log in front of it, for example `ValueError: no such city`.

    Args:
        text: a text with several lines. A text without an error, or one that begins with its cause, is not changed.
    """
    cause = _cause(text)
    if not cause or cause in text.partition("\n")[0]:
        return text
    return f"{cause}\n{text}"


def plain(text: str) -> str:
    """Remove the colors and other control characters of a terminal. Line breaks and tabs stay."""
    return _ESCAPE.sub("", text.replace("\r\n", "\n"))


def listed(names: Sequence[str], shown: int) -> str:
    """Return names as one text, for example `a, b and 3 more`.

    Args:
        names: all names.
        shown: how many of them are named.
    """
    more = len(names) - shown
    return f"{', '.join(names[:shown])} and {more} more" if more > 0 else ", ".join(names)


def _cause(text: str) -> str:
    """Return the line that names the error of the last traceback, or else of the last error in a log; or empty."""
    start = text.rfind(_TRACEBACK)
    lines = text[max(start, 0) :].split("\n")
    if len(lines) < 2:
        return ""
    if start >= 0:  # the error follows the indented frames
        after_frames = [
            line for before, line in itertools.pairwise(lines) if before[:1].isspace() and _NAMED.match(line)
        ]
        if after_frames:
            return after_frames[-1].strip()
    return next((line.strip() for line in reversed(lines) if _ERROR.match(line)), "")


def _beginning(text: str, room: int) -> str:
    """Return the first words of a text."""
    if len(text) <= room:
        return text
    piece = text[:room]
    if not text[room].isspace():
        last_space = max((found.start() for found in _SPACE.finditer(piece)), default=0)
        piece = piece[:last_space] if last_space > room // 2 else piece
    return piece.rstrip()


def _end(text: str, room: int) -> str:
    """Return the last lines of a text, or its last words if the last line is long."""
    piece = text[-room:]
    if text[-room - 1 : -room] == "\n":
        return piece.lstrip("\n")
    line = piece.find("\n")
    if 0 <= line < room // 2:
        return piece[line + 1 :]
    word = _SPACE.search(text[-room - 1 :])
    return piece[word.start() :].lstrip() if word is not None and word.start() < room // 2 else piece
