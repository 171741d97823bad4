"""The prose of a Python file: docstrings, comments and strings."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dev.prose.blocks import Block, Kind

SECTIONS: Final = ("Args", "Attributes", "Returns", "Raises", "Yields", "Example", "Examples", "Note", "Notes")
# One word in place of a value that is known only at run time.
PLACEHOLDER: Final = "X"
_ENTRY: Final = re.compile(r"(\s+)([\w*.`, ]+?)(?: \([^)]*\))?:(?:\s|$)")
_DIRECTIVE: Final = re.compile(r"#(!|\s*(noqa|type:|pragma|mypy:|ruff:|fmt:|-\*-))")
_WORDS: Final = re.compile(r"[A-Za-z][a-z']*[a-z](?=[\s,.;:?!)]|$)")


@dataclass(frozen=True)
class Entry:
    """What a docstring states about one argument, attribute or exception.

    Attributes:
        section: the heading above the entry, for example `Args`.
        name: the documented name.
        line: the line of the file.
        text: the statement, which is empty if there is none.
    """

    section: str
    name: str
    line: int
    text: str


Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(tree: ast.Module) -> Iterator[Definition]:
    """List the module, its classes and its functions, at any depth.

    Args:
        tree: a parsed file.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            children = getattr(node, field, ())
            waiting += children if isinstance(children, list) else ()


def blocks(text: str, tree: ast.Module) -> Iterator[Block]:
    """List all prose of a Python file.

    Args:
        text: the file's content.
        tree: the same content, parsed.
    """
    yield from _comments(text)
    yield from _strings(tree)


def docstring_blocks(docstring: str, first: int, base: int) -> Iterator[Block]:
    """Split a docstring into paragraphs and section entries.

    Args:
        docstring: the text between the quotes.
        first: the number of its first line.
        base: the number of spaces before the opening quotes.
    """
    paragraph: list[str] = []
    start, is_literal = first, False
    section = ""
    for number, line in enumerate(docstring.split("\n"), first):
        indent = len(line) - len(line.lstrip()) if number > first else base
        heading = line.strip().removesuffix(":")
        opens_section = line.strip().endswith(":") and heading in SECTIONS
        deeper = indent > base and bool(line.strip())
        entry = _ENTRY.match(line) if section and deeper and indent <= base + 4 else None
        begins_literal = deeper and not section
        if not line.strip() or opens_section or entry or begins_literal or begins_literal != is_literal:
            if paragraph:
                yield Block(Kind.DOCSTRING, start, "\n".join(paragraph), not is_literal)
            paragraph, start, is_literal = [], number, begins_literal
        if opens_section:
            section, start = heading, number + 1
            continue
        if line.strip() and not deeper:
            section = ""
        if line.strip():
            paragraph = paragraph or []
            start = start if paragraph else number
            paragraph.append(line[entry.end() :] if entry else line)
    if paragraph:
        yield Block(Kind.DOCSTRING, start, "\n".join(paragraph), not is_literal)


def entries(docstring: str, first: int, base: int) -> Iterator[Entry]:
    """List what a docstring states about arguments, attributes and exceptions.

    Args:
        docstring: the text between the quotes.
        first: the number of its first line.
        base: the number of spaces before the opening quotes.
    """
    section = ""
    current: Entry | None = None
    for number, line in enumerate(docstring.split("\n")[1:], first + 1):
        indent = len(line) - len(line.lstrip())
        heading = line.strip().removesuffix(":")
        match = _ENTRY.match(line) if section and base < indent <= base + 4 else None
        if current is not None and (match or indent <= base) and line.strip():
            yield current
            current = None
        if line.strip().endswith(":") and heading in SECTIONS:
            section = heading
        elif match:
            current = Entry(section, match[2].strip("* "), number, line[match.end() :].strip())
        elif current is not None:
            current = Entry(section, current.name, current.line, f"{current.text} {line.strip()}".strip())
        elif line.strip() and indent <= base:
            section = ""
    if current is not None:
        yield current


def _comments(text: str) -> Iterator[Block]:
    lines: list[str] = []
    start = last = column = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
            continue
        alone = not token.line[: token.start[1]].strip()
        if lines and not (alone and token.start == (last + 1, column)):
            yield Block(Kind.COMMENT, start, "\n".join(lines))
            lines = []
        start = start if lines else token.start[0]
        lines.append(token.string.lstrip("#:").strip(" -"))
        last, column = token.start[0], token.start[1] if alone else -1
    if lines:
        yield Block(Kind.COMMENT, start, "\n".join(lines))


_LOG_METHODS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_MESSAGE_CALLS: Final = frozenset({"Note", "Condition"})


def _strings(tree: ast.Module) -> Iterator[Block]:
    kinds: dict[int, Kind | None] = {}
    # A node is visited before the nodes within it, so that a string's use is known before the string.
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            kinds[id(node.value)] = None
            yield from docstring_blocks(node.value.value, node.lineno, node.col_offset)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            _mark(kinds, node.exc.args[0], Kind.ERROR)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _LOG_METHODS or name in _MESSAGE_CALLS:
                for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                    _mark(kinds, argument, Kind.MESSAGE)
        elif isinstance(node, (ast.JoinedStr, ast.Constant)):
            kind = kinds.get(id(node), Kind.STRING)
            if isinstance(node, ast.JoinedStr):
                kinds.update((id(value), None) for value in node.values)
            text = literal(node)
            if kind is not None and text and (kind is Kind.ERROR or _is_prose(text)):
                # Escapes and continued literals hide the place of a word, so the string's first line is named.
                yield Block(kind, node.lineno, text.replace("\n", " "), sentences="\n" not in text)


def _mark(kinds: dict[int, Kind | None], node: ast.expr, kind: Kind) -> None:
    if isinstance(node, ast.IfExp):
        _mark(kinds, node.body, kind)
        _mark(kinds, node.orelse, kind)
    else:
        kinds[id(node)] = kind


def literal(node: ast.expr) -> str | None:
    """Return the text of a string literal with a placeholder for each formatted value.

    Args:
        node: any expression; the result is None unless it is a string literal.
    """
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (str(value.value) if isinstance(value, ast.Constant) else PLACEHOLDER for value in node.values)
        return "".join(parts)
    return None


def _is_prose(text: str) -> bool:
    words = text.split()
    return len(words) >= 3 and len(_WORDS.findall(text)) >= max(2, len(words) // 2) and not re.search(r"[{}=]{2}", text)
