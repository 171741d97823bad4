"""The rules on form, which words alone do not decide: docstrings and error messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from dev.prose import python_source
from dev.prose.blocks import Block, Finding, Kind
from dev.prose.python_source import Entry, entries

NAME_LENGTH: Final = 60
# Paths and the names of some programs keep their small letters.
_STARTS: Final = re.compile(r"[A-Z0-9`\"'(*<]|[\w.-]+/|(?:etcd|kopf|pydantic|kubectl|kubelet|pip|containerd|minio)\b")
_EMPTY: Final = re.compile(
    r"(?:(?:which|where|when|what|how|who|why)(?: (?:one|it is|it was|they are|to))?|as (?:there|above|before)"
    r"|see (?:there|above|the port|its? \w+)|for the reader|its|the same)?\.?",
    re.IGNORECASE,
)


def test_names(tree: ast.Module) -> Iterator[Finding]:
    """Check the length of each test's name.

    Args:
        tree: a parsed file.
    """
    for node in python_source.definitions(tree):
        if isinstance(node, ast.Module):
            continue
        name = node.name
        if name.startswith("test_") and len(name) > NAME_LENGTH:
            yield Finding(node.lineno, "test-name", f"`{name}` has {len(name)} characters: shorten it to {NAME_LENGTH}")


def docstrings(tree: ast.Module) -> Iterator[Finding]:
    """Check the first line and the entries of each docstring.

    Args:
        tree: a parsed file.
    """
    for node in python_source.definitions(tree):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None:
            continue
        line, indent = node.body[0].lineno, node.body[0].col_offset
        summary = docstring.strip().split("\n")[0].strip()
        if re.fullmatch(r"`+[^`]+`+", summary):
            continue
        if not _STARTS.match(summary):
            yield Finding(line, "docstring-summary", "start the first line with a capital letter")
        if not re.search(r"[.?!][`\"')]*$", summary):
            yield Finding(line, "docstring-summary", "end the first line with a full stop: it is one whole sentence")
        for entry in entries(docstring, line, indent):
            yield from _entry(entry)


def _entry(entry: Entry) -> Iterator[Finding]:
    if entry.section not in ("Args", "Attributes"):
        return
    text = " ".join(entry.text.split())
    if _EMPTY.fullmatch(text):
        yield Finding(
            entry.line, "docstring-entry", f"`{entry.name}: {text}`: state the meaning and unit, or leave it out"
        )
    elif _bare(text) == _bare(entry.name):
        yield Finding(entry.line, "docstring-entry", f"`{entry.name}: {text}` only repeats the name: state the meaning")


def _bare(text: str) -> str:
    return " ".join(re.sub(r"^(the|a|an|its|whose)\s+", "", re.sub(r"[\W_]+", " ", text).strip().lower()).split())


def errors(block: Block) -> Iterator[Finding]:
    """Check the form of an error message: what failed, why, and what to do.

    Args:
        block: any block; only error messages are checked.
    """
    if block.kind is not Kind.ERROR:
        return
    text = block.text.strip()
    if re.search(r"(?<!\.)\.$", text):
        yield Finding(block.line, "error-form", "end an error message without a full stop")
    if re.fullmatch(r"[A-Za-z]+", text) and text != "X":
        yield Finding(block.line, "error-form", f"`{text}` explains nothing: write what failed: why; what you can do")
    elif re.search(r"[a-z] ", text) and not re.search(
        r"[:;,.] |\(| (?:must|need|expect|because|instead|is not|are not)", text
    ):
        yield Finding(
            block.line, "error-form", "give the reason or the remedy: what failed: why; what to do", error=False
        )
