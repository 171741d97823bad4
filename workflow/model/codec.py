"""Converts records to JSON values and back. Fields with their default value are left out; bytes are written as base64.

`log.segments` and `log.blobs` use this module. A kind, field or enum value that this version does not know raises
`UnknownNameError`, because only a newer version writes it. Any other mismatch raises `CorruptLogError`.
"""

from __future__ import annotations

import base64
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from workflow.errors import CorruptLogError
from workflow.model import records
from workflow.model.graph import Graph

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(records.Record)}

Coder = Callable[[Any], Any]

T = TypeVar("T")

_LONGEST_SHARED = 200
"""The longest string, in characters, for which equal strings are one object in memory."""


class UnknownNameError(Exception):
    """A record kind, a field or an enum value is unknown to this version. The text names it."""


def encode(record: records.Record) -> dict[str, Any]:
    """Return a record as a JSON object; the key `k` holds its kind."""
    kind: Any = type(record)
    return {"k": kind.__name__, **_writer(kind)(record)}


def decode(data: Any) -> records.Record:
    """Return the record that `encode` made.

    Raises:
        UnknownNameError: the record has a kind, a field or an enum value that this version does not know.
        CorruptLogError: the data is not a record.
    """
    try:
        fields = dict(data)
        name = fields.pop("k")
        kind: Any = KINDS.get(name)
        if kind is None:
            raise UnknownNameError(f"record kind {name!r}") if isinstance(name, str) else TypeError(f"kind {name!r}")
        return typing.cast(records.Record, _reader(kind)(fields))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLogError(f"not a record: {error!r} in {str(data)[:200]}") from error


def encode_value(value: Any) -> dict[str, Any]:
    """Return a dataclass instance that is not a record, for example a DAG, as a JSON object."""
    return typing.cast("dict[str, Any]", _writer(typing.cast("Any", type(value)))(value))


def decode_value(kind: type[T], data: Any) -> T:
    """Return the instance of `kind` that `encode_value` made.

    Raises:
        UnknownNameError: the data has a field or an enum value that this version does not know.
        CorruptLogError: the data is not an instance of `kind`.
    """
    try:
        return typing.cast(T, _reader(typing.cast("Any", kind))(data))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLogError(f"not a {kind.__name__}: {error!r}") from error


def encode_graph(graph: Graph) -> dict[str, Any]:
    """Return a DAG as a JSON object."""
    return encode_value(graph)


def decode_graph(data: Any) -> Graph:
    """Return the DAG that `encode_graph` made; raises as `decode_value` does."""
    return decode_value(Graph, data)


@cache
def _writer(kind: Any) -> Coder:
    """Return the function that turns values declared as `kind` into JSON values."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_writer(typing.cast("type[Any]", kind))
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _writer(_without_none(kind))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _writer(typing.get_args(kind)[0])
        return lambda value: [item(each) for each in value]
    if kind is bytes:
        return lambda value: base64.b64encode(value).decode("ascii")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    if origin is not None and issubclass(origin, Mapping):
        return dict
    return lambda value: value


def _dataclass_writer(kind: type[Any]) -> Coder:
    hints = typing.get_type_hints(kind)
    plan = [(field.name, _default(field), _writer(hints[field.name])) for field in dataclasses.fields(kind)]

    def write(value: Any) -> dict[str, Any]:
        out = {}
        for name, default, coder in plan:
            item = getattr(value, name)
            if item != default:
                out[name] = coder(item)
        return out

    return write


@cache
def _reader(kind: Any) -> Coder:
    """Return the function that turns JSON values into values declared as `kind`."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast("type[Any]", kind))
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _reader(_without_none(kind))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _reader(typing.get_args(kind)[0])
        return lambda value: tuple(item(each) for each in value)
    if kind is bytes:
        return lambda value: base64.b64decode(value, validate=True)
    if kind is float:
        return float
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_reader(kind)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(*typing.get_args(kind))
    if kind is Any:
        return lambda value: value
    return _checked(kind)


def _dataclass_reader(kind: type[Any]) -> Coder:
    hints = typing.get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise TypeError(f"{data!r} is not a {kind.__name__}")
        unknown = data.keys() - readers.keys()
        if unknown:
            raise UnknownNameError(f"field {min(unknown)!r} of {kind.__name__}")
        return kind(**{name: readers[name](item) for name, item in data.items()})

    return read


def _enum_reader(kind: type[Enum]) -> Coder:
    members = {member.value: member for member in kind}

    def read(value: Any) -> Enum:
        if type(value) is not str:
            raise TypeError(f"{value!r} is not a {kind.__name__}")
        if value not in members:
            raise UnknownNameError(f"{kind.__name__} {value!r}")
        return members[value]

    return read


def _mapping_reader(key_kind: Any, item_kind: Any) -> Coder:
    read_key, read_item = _reader(key_kind), _reader(item_kind)

    def read(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise TypeError(f"{value!r} is not an object")
        return {read_key(key): read_item(item) for key, item in value.items()}

    return read


def _checked(kind: type[Any]) -> Coder:
    if kind is str:
        return _text

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is not {kind.__name__}")
        return value

    return read


def _text(value: Any) -> str:
    # Ids and names occur many times, and a manager keeps those of all its unfinished steps. Equal strings share memory.
    if type(value) is not str:
        raise TypeError(f"{value!r} is not str")
    return sys.intern(value) if len(value) <= _LONGEST_SHARED else value


def _without_none(kind: Any) -> Any:
    """Return `X` of `X | None`."""
    (inner,) = (each for each in typing.get_args(kind) if each is not type(None))
    return inner


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
