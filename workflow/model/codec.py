"""Records to JSON values and back. Fields at their default are left out; bytes travel as base64.

Used by `log.segments`. What does not fit a record's fields is `Corrupt`: nothing unknown is ever guessed at.
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
from typing import Any

from workflow.errors import CorruptLogError
from workflow.model import records
from workflow.model.graph import Graph

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(records.Record)}

Coder = Callable[[Any], Any]

_LONGEST_SHARED = 200


def encode(record: records.Record) -> dict[str, Any]:
    """A record as a JSON object; its kind stands under `k`."""
    kind: Any = type(record)
    return {"k": kind.__name__, **_writer(kind)(record)}


def decode(data: Any) -> records.Record:
    """The record that `encode` made.

    Raises:
        Corrupt: data is no such object.
    """
    try:
        fields = dict(data)
        kind: Any = KINDS[fields.pop("k")]
        return typing.cast(records.Record, _reader(kind)(fields))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLogError(f"not a record this version knows: {error!r} in {str(data)[:200]}") from error


def encode_graph(graph: Graph) -> dict[str, Any]:
    """A DAG as a JSON object."""
    return typing.cast("dict[str, Any]", _writer(Graph)(graph))


def decode_graph(data: Any) -> Graph:
    """The DAG that `encode_graph` made; raises Corrupt."""
    try:
        return typing.cast(Graph, _reader(Graph)(data))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLogError(f"not a DAG this version knows: {error!r}") from error


@cache
def _writer(kind: Any) -> Coder:
    """How values declared as `kind` become JSON values."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_writer(typing.cast("type[Any]", kind))
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _writer(_present(kind))
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
    """How JSON values become values declared as `kind`."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast("type[Any]", kind))
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _reader(_present(kind))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _reader(typing.get_args(kind)[0])
        return lambda value: tuple(item(each) for each in value)
    if kind is bytes:
        return lambda value: base64.b64decode(value, validate=True)
    if kind is float:
        return float
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if origin is not None and issubclass(origin, Mapping):
        return dict
    return _checked(kind)


def _dataclass_reader(kind: type[Any]) -> Coder:
    hints = typing.get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise TypeError(f"{data!r} is not a {kind.__name__}")
        return kind(**{name: readers[name](item) for name, item in data.items()})

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
    # Ids and names come again and again, and a manager keeps those of all its live steps: equal ones are one object.
    if type(value) is not str:
        raise TypeError(f"{value!r} is not str")
    return sys.intern(value) if len(value) <= _LONGEST_SHARED else value


def _present(kind: Any) -> Any:
    """`X` of `X | None`."""
    (inner,) = (each for each in typing.get_args(kind) if each is not type(None))
    return inner


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
