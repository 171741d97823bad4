"""The prose of files that are not Python: Markdown, charts, schemas, Makefiles and scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dev.prose.blocks import Block, Kind

_FENCE: Final = re.compile(r"\s*(```|~~~)")
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d+\.)\s+(?:\[[ x]\] )?")
_TABLE_RULE: Final = re.compile(r"\s*\|?[\s:|-]+\|?\s*$")
_DESCRIPTION: Final = re.compile(r"\s*(?:- )?\"?description\"?:\s*(.*)")


def markdown(text: str) -> Iterator[Block]:
    """List the paragraphs, list items, headings and table cells of a Markdown file, without fenced code.

    Args:
        text: the file's content.
    """
    paragraph: list[str] = []
    start, fence, comment = 1, "", False
    for number, line in enumerate(text.split("\n"), 1):
        fenced = _FENCE.match(line)
        comment = comment or line.lstrip().startswith("<!--")
        inside = bool(fence) or comment
        if fenced and (not fence or fence == fenced[1]):
            fence = "" if fence else fenced[1]
            inside = True
        comment = comment and "-->" not in line
        item = _LIST_ITEM.match(line)
        apart = line.lstrip().startswith(("|", "#", "<"))
        if (inside or item or apart or not line.strip()) and paragraph:
            yield Block(Kind.DOCUMENT, start, "\n".join(paragraph))
            paragraph = []
        if inside or not line.strip() or (line.startswith("    ") and not (item or paragraph)):
            continue
        if apart:
            yield from _apart(number, line)
            continue
        start = start if paragraph else number
        paragraph.append(line[item.end() :] if item else line.strip("> "))
    if paragraph:
        yield Block(Kind.DOCUMENT, start, "\n".join(paragraph))


def _apart(number: int, line: str) -> Iterator[Block]:
    if not line.lstrip().startswith("|"):
        yield Block(Kind.DOCUMENT, number, line.strip("# "), sentences=False)
    elif not _TABLE_RULE.match(line):
        for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")):
            if cell.strip():
                yield Block(Kind.DOCUMENT, number, cell.strip())


def yaml(text: str) -> Iterator[Block]:
    """List the comments and the descriptions of a YAML file.

    Args:
        text: the file's content.
    """
    yield from comments(text)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        found = _DESCRIPTION.fullmatch(line)
        if found:
            indent = len(line) - len(line.lstrip())
            rest = []
            for following in lines[number:]:
                if not following.strip() or len(following) - len(following.lstrip()) <= indent:
                    break
                rest.append(following)
            value = "\n".join((found[1].lstrip("'\">|-"), *rest)).rstrip("'\"")
            yield Block(Kind.DESCRIPTION, number, value)


def json_schema(text: str) -> Iterator[Block]:
    """List the descriptions of a JSON schema.

    Args:
        text: the file's content.
    """
    for number, line in enumerate(text.split("\n"), 1):
        for found in re.finditer(r'"(?:description|title)":\s*("(?:[^"\\]|\\.)*")', line):
            yield Block(Kind.DESCRIPTION, number, json.loads(found[1]))


def comments(text: str) -> Iterator[Block]:
    """List the comments of a file whose comments start with `#`.

    Args:
        text: the file's content.
    """
    lines: list[str] = []
    start = 0
    for number, line in enumerate((*text.split("\n"), ""), 1):
        alone = re.match(r"\s*#(?!!)[ -]*(.*?)[ -]*$", line)
        if lines and not alone:
            yield Block(Kind.COMMENT, start, "\n".join(lines))
            lines = []
        if alone:
            start = start if lines else number
            lines.append(alone[1])
        else:
            trailing = re.search(r"\s#{1,2}\s+([^'\"`]*)$", line)
            if trailing:
                yield Block(Kind.COMMENT, number, trailing[1])


def notes(text: str) -> Iterator[Block]:
    """List the lines of a chart's NOTES.txt that are not commands.

    Args:
        text: the file's content.
    """
    for number, line in enumerate(text.split("\n"), 1):
        prose = re.sub(r"\{\{.*?\}\}", "X", line).strip()
        if prose.strip("X ") and not re.match(r"(kubectl|helm|--|mc )", prose):
            yield Block(Kind.DOCUMENT, number, prose)


def page(text: str) -> Iterator[Block]:
    """List the lines of an HTML page that contain text.

    Args:
        text: the file's content.
    """
    for number, line in enumerate(text.split("\n"), 1):
        for part in re.findall(r">([^<>{}]*[a-z][^<>{}]* [^<>{}]*)<", line):
            yield Block(Kind.DOCUMENT, number, part.strip(), sentences=False)


def blocks(path: Path, text: str) -> Iterator[Block]:
    """List all prose of a file; the name decides how it is read.

    Args:
        path: the file's name.
        text: the file's content.
    """
    readers = {".md": markdown, ".yaml": yaml, ".yml": yaml, ".json": json_schema, ".html": page, ".toml": comments}
    if path.name == "NOTES.txt":
        yield from notes(text)
    elif path.suffix in readers:
        yield from readers[path.suffix](text)
    elif path.suffix == ".sh" or path.name == "Makefile" or path.name.startswith("Dockerfile") or text[:2] == "#!":
        yield from comments(text)
