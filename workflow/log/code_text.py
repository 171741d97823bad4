"""Texts of byte code and data that are equal in every process. Used by `code_digest`."""

from __future__ import annotations

import dis
import functools
import hashlib
import itertools
import pickle
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_PLAIN: Final = (bool, int, float, complex, str, bytes)
DATA: Final = (list, tuple, dict, set, frozenset)
"""Containers that `data_text` compares with their content."""

_PRINTED: Final = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid"})
"""Modules whose objects cannot change, and whose `repr` shows all of them."""

_HASHED: Final = frozenset({"array", "numpy", "pandas", "polars", "pyarrow"})
"""Packages whose objects are data, which is compared by its pickle."""

_DEEPEST: Final = 20
"""Levels of containers that are compared; one may contain itself."""

_MOST_ITEMS: Final = 500_000
"""Items of a container that are compared."""

_REBINDING_CELLS: Final = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_READING_GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """What a digest needs of byte code.

    Attributes:
        text: see `text`.
        global_names: the global names that it reads, in a fixed order. Attributes are not among them.
        rebound_cells: the names of cells that it binds again, so that their content is state.
    """

    text: str
    global_names: tuple[str, ...]
    rebound_cells: frozenset[str]


@functools.lru_cache(20_000)
def read_code(code: types.CodeType) -> CodeFacts:
    """Return what a digest needs of byte code, including that of inner functions."""
    found = [(each.opname, str(each.argval)) for part in _with_nested(code) for each in dis.get_instructions(part)]
    names = dict.fromkeys(name for operation, name in found if operation in _READING_GLOBALS)
    rebound = frozenset(name for operation, name in found if operation in _REBINDING_CELLS)
    return CodeFacts(text(code), tuple(names), rebound)


def _with_nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_nested(constant)


def is_plain(value: Any) -> bool:
    """Return whether a value cannot change and has a text in every process."""
    if isinstance(value, tuple | frozenset):
        return all(map(is_plain, value))
    return type(value) in _PLAIN


def data_text(value: Any, depth: int = 0) -> str:
    """Return the text of data in containers; see `text`."""
    if _package(value) in _HASHED:
        return f"{text(value)} {_pickle_hash(value)}"
    if not isinstance(value, DATA) or depth > _DEEPEST:
        return text(value)
    items = itertools.islice(value.items() if isinstance(value, dict) else value, _MOST_ITEMS)
    parts = [data_text(each, depth + 1) for each in items]
    return f"{type(value).__name__} of {len(value)}: {sorted(parts) if isinstance(value, set | frozenset) else parts}"


def is_data(value: Any) -> bool:
    """Return whether `data_text` compares the content of a value."""
    return isinstance(value, DATA) or is_plain(value) or _package(value) in _HASHED | _PRINTED


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _pickle_hash(value: Any) -> str:
    digest = hashlib.sha256()
    try:
        digest.update(pickle.dumps(value, 5, buffer_callback=lambda buffer: digest.update(buffer.raw())))
    except Exception as error:  # noqa: BLE001 - a type of another library may raise anything; its content does not count
        return type(error).__name__
    return digest.hexdigest()


def text(value: Any) -> str:
    """Return a text that is equal for equal code and constants in every process. Other values give their type only."""
    if isinstance(value, types.CodeType):
        parts = (
            value.co_name, value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags,
            value.co_code.hex(), getattr(value, "co_exceptiontable", b""), value.co_names, value.co_varnames,
            value.co_freevars, value.co_cellvars,
            [text(constant) for constant in value.co_consts],
        )  # fmt: skip
        return repr(parts)
    if type(value) is tuple:
        return f"({','.join(map(text, value))})"
    if type(value) is frozenset:  # its order depends on the hash seed of the process
        return f"{{{','.join(sorted(map(text, value)))}}}"
    if value is None or value is Ellipsis or type(value) in _PLAIN:
        return f"{type(value).__name__} {value!r}"
    if _package(value) in _PRINTED:
        return repr(value)
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
