"""The unit that the rules read: a block of prose that knows its place in a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a block is part of."""

    DOCUMENT = "document"
    DOCSTRING = "docstring"
    COMMENT = "comment"
    ERROR = "error"
    MESSAGE = "message"
    STRING = "string"
    DESCRIPTION = "description"


RUNNING_TEXT: Final = frozenset({Kind.DOCUMENT, Kind.DOCSTRING, Kind.COMMENT, Kind.DESCRIPTION})


@dataclass(frozen=True)
class Block:
    """One paragraph, entry, comment or string.

    Attributes:
        kind: what it is part of.
        line: the line of the file in which `text` starts, counted from 1.
        text: the prose; its line breaks are those of the file.
        sentences: whether the text consists of sentences; a heading, a table cell and a diagram do not.
    """

    kind: Kind
    line: int
    text: str
    sentences: bool = True


@dataclass(frozen=True)
class Finding:
    """One violation of a rule.

    Attributes:
        line: the line of the file, counted from 1.
        rule: the rule's name.
        message: what to write instead.
        error: whether the finding fails the check; a warning does not.
    """

    line: int
    rule: str
    message: str
    error: bool = True


# What is not English is replaced by as many characters, so that each offset still has its line.
_CODE: Final = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)
_LINK_TARGET: Final = re.compile(r"(?<=\])\([^)\s]+\)")
_URL: Final = re.compile(r"\b[a-z0-9+]+://[^\s)>\]\"']+")
_TAG: Final = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def without_code(text: str) -> str:
    """Replace code, addresses and markup by placeholders of the same length.

    Args:
        text: prose in Markdown or reStructuredText.
    """
    for pattern in (_TEMPLATE, _CODE):
        text = pattern.sub(lambda found: _filled(found[0], "X"), text)
    text = _URL.sub(lambda found: _filled(found[0], "X"), text)
    for pattern in (_TAG, _LINK_TARGET):
        text = pattern.sub(lambda found: _filled(found[0], " "), text)
    return text


def _filled(text: str, filler: str) -> str:
    return re.sub(r"[^\n]", filler, text)


_SENTENCE_END: Final = re.compile(r"(?<![.\s]\w)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)[.!?][\"')\]*_]*(?=\s+\S)")


def sentences(text: str) -> list[tuple[int, str]]:
    """Split a block into sentences.

    Args:
        text: the block's text, without code.

    Returns:
        The offset and the text of each sentence.
    """
    found, start = [], 0
    for end in (*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)):
        sentence = text[start:end]
        stripped = sentence.lstrip()
        if stripped:
            found.append((start + len(sentence) - len(stripped), stripped))
        start = end
    return found
