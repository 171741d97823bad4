"""The value of a run as text in the log, for readers that must not unpickle: exact JSON, or a description.

A description has angle brackets around it, as `<a bytes of 12 bytes>`, so that it is never JSON. The encoder uses no
recursion, calls no code of the user's classes, and stops at the size limit. So every value has a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

LONGEST: Final = 16 * 1024
"""Characters of the longest text. The text of a larger value is a description."""

_LARGEST_INT_BITS: Final = 14_000
"""Python refuses to write an int with more than 4,300 digits."""

_LONGEST_NAME: Final = 200
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class _NotJson(Exception):  # noqa: N818 - it carries a description, and never leaves this module
    """The value has no JSON text. The argument describes the part for which this is true."""


class _Open(NamedTuple):
    """A list or dict whose items are being written."""

    items: Iterator[tuple[str, Any]]
    closing: str
    identity: int


def render(value: Any, size: int = 0) -> str:
    """Return a value as JSON if it is exactly representable, else a description in angle brackets.

    Lists, tuples and dicts with keys of type str become JSON, and so do str, int, float, bool and None.

    Args:
        value: any object.
        size: size of its pickle in bytes, for the description; 0 if it is not known.
    """
    pieces: list[str] = []
    length = 0
    try:
        for piece in _pieces(value):
            pieces.append(piece)
            length += len(piece)
            if length > LONGEST:
                return described(f"{_kind_of(value)} with more than {LONGEST} characters of JSON")
    except _NotJson as error:
        part = str(error)
        if not _is_container(value):
            return described(_with_size(part, value, size))
        return described(f"{_kind_of(value)} that {part if part.startswith('has ') else f'contains {part}'}")
    return "".join(pieces)


def described(description: str) -> str:
    """Return the text of a value that has no JSON text."""
    return f"<{description}>"


def description_of(text: str) -> str | None:
    """Return the description in a text of a value; None if the text is not a description."""
    return text[1:-1] if text.startswith("<") and text.endswith(">") else None


def with_no_exception(text: str) -> str:
    """Return the text of the tuple `(value, None)`.

    Args:
        text: the text of the value.
    """
    description = description_of(text)
    if description is not None:
        return described(f"a tuple that contains {description}")
    return f"[{text}, null]" if text else ""


def _pieces(value: Any) -> Iterator[str]:
    """Yield the JSON text of a value in pieces."""
    enclosing: set[int] = set()
    stack = [_Open(iter([("", value)]), "", 0)]
    while stack:
        current = stack[-1]
        for prefix, item in current.items:
            yield prefix
            if not _is_container(item):
                yield _scalar(item)
                continue
            if id(item) in enclosing:
                endless = "itself" if item is value else f"{_kind_of(item)} that contains itself"
                raise _NotJson(endless)
            enclosing.add(id(item))
            yield "{" if isinstance(item, dict) else "["
            stack.append(_Open(_items(item), "}" if isinstance(item, dict) else "]", id(item)))
            break
        else:
            yield current.closing
            enclosing.discard(current.identity)
            stack.pop()


def _items(container: Any) -> Iterator[tuple[str, Any]]:
    """Yield each item of a list, tuple or dict, with the text before it."""
    comma = ""
    if isinstance(container, dict):
        for key, item in dict.items(container):
            if not isinstance(key, str):
                raise _NotJson(f"has a key of type {_name_of(type(key))}")
            yield f"{comma}{_string(key)}: ", item
            comma = ", "
        return
    for item in list.__iter__(container) if isinstance(container, list) else tuple.__iter__(container):
        yield comma, item
        comma = ", "


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple))


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        if int.bit_length(value) > _LARGEST_INT_BITS:
            raise _NotJson(f"an int of {int.bit_length(value)} bits")
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        if text in ("nan", "inf", "-inf"):
            raise _NotJson(f"the float {text}, which JSON does not have")
        return text
    raise _NotJson(_kind_of(value))


def _string(text: str) -> str:
    """Return a string as JSON. A lone surrogate, which UTF-8 does not have, is escaped."""
    if str.__len__(text) > LONGEST:
        raise _NotJson(f"a str of {str.__len__(text)} characters")
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _with_size(description: str, value: Any, size: int) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"{description} of {len(value)} bytes"
    if isinstance(value, (str, int, float)) or not size:
        return description
    return f"{description}, stored in {size} bytes"


def _kind_of(value: Any) -> str:
    name = _name_of(type(value))
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def _name_of(kind: type) -> str:
    """Return the name of a class, with its module unless it is a builtin. A metaclass may give it any attributes."""
    module, name = type.__dict__["__module__"].__get__(kind), type.__dict__["__qualname__"].__get__(kind)
    text = str(name) if module == "builtins" else f"{module}.{name}"
    return text[:_LONGEST_NAME]
