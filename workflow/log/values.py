"""Pickles of the user's values, with marks for what lies outside them: parents' outcomes, object references.

The engine says, by a `Reducer`, what to replace while pickling, and by an environment what the marks stand for while
unpickling. cloudpickle does the rest. Needs no Ray.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import platform
import threading
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from types import CodeType
from typing import Any

import cloudpickle

from workflow.errors import CorruptLogError, InvalidInputError, WorkflowError
from workflow.log.pickled import Fetched, Pickled, Sink

LONGEST_TEXT = 16 * 1024

LARGEST_RENDERED = 16 * 1024 * 1024
"""Bytes of a pickle from which a value's text is not made: it would take several times the value's memory."""

Reducer = Callable[[Any], "tuple[Any, ...] | None"]
"""Asked of each object that pickle does not know by itself: `(Mark resolver, arguments)` to replace it, or None."""


def dumps(value: Any, reduce: Reducer) -> bytes | Pickled:
    """Pickle a value. Where it is large, the result points into it: nothing may change it until that is stored.

    Raises:
        Invalid: something in it cannot be pickled; the text says what pickle said.
        StoreUnavailable: the reducer could not store what it replaces.
    """
    out = Sink()
    pickler = _Pickler(out, reduce)
    try:
        pickler.dump(value)
    except WorkflowError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"a {type(value).__name__} cannot be pickled: {type(error).__name__}: {error}; pass data instead of open "
            "files, locks, generators or connections, and make those inside the step"
        ) from error
    return out.result()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    def __init__(self, out: Sink, reduce: Reducer) -> None:
        super().__init__(out, protocol=5, buffer_callback=out.take)
        self._reduce = reduce

    def reducer_override(self, obj: Any) -> Any:
        """Pickle's hook: ours first, then cloudpickle's."""
        if isinstance(obj, CodeType):
            return self._with_its_file(obj)
        reduced = self._reduce(obj)
        return super().reducer_override(obj) if reduced is None else reduced

    def _with_its_file(self, code: CodeType) -> tuple[Any, ...]:
        """cloudpickle 3.1.3 forgets where code was written; the tracebacks of steps are to show it."""
        make, args = self.dispatch_table[CodeType](code)
        return make, tuple(code.co_filename if arg == "<dynamic-code>" else arg for arg in args)


_environment = threading.local()

Resolve = Callable[[str, str], Any]
"""(kind of mark, its name) -> what it stands for."""


def mark(kind: str, name: str) -> tuple[Any, ...]:
    """What a Reducer returns to have an object replaced by a mark."""
    return _resolve_mark, (kind, name)


def _resolve_mark(kind: str, name: str) -> Any:
    resolve: Resolve | None = getattr(_environment, "resolve", None)
    if resolve is None:
        raise CorruptLogError(f"a stored value refers to {kind} {name}, but is read where nothing can resolve it")
    return resolve(kind, name)


def loads(data: bytes | Pickled | Fetched, resolve: Resolve, written_by: str = "") -> Any:
    """Unpickle what `dumps` made.

    Args:
        data: the pickle; what was fetched is used up.
        resolve: what marks stand for.
        written_by: versions that pickled it, for the text of an error.

    Raises:
        Invalid: it cannot be unpickled here; the text names both sides' versions.
        StoreUnavailable, Corrupt: what a mark stands for cannot be read.
    """
    with _resolving(resolve):
        try:
            if isinstance(data, bytes):
                return pickle.loads(data)
            return (Fetched.of(data) if isinstance(data, Pickled) else data).load()
        except WorkflowError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"a stored value cannot be unpickled: {type(error).__name__}: {error}; written by "
                f"{written_by or 'an unknown version'}, read by {versions()}; install the module it needs, or resume "
                "where the versions fit"
            ) from error


@contextlib.contextmanager
def _resolving(resolve: Resolve) -> Iterator[None]:
    before = getattr(_environment, "resolve", None)
    _environment.resolve = resolve
    try:
        yield
    finally:
        _environment.resolve = before


def render(value: Any, size: int = 0) -> str:
    """A value as JSON where it is JSON, else as plain text: for readers that must not unpickle. At most 16 KiB.

    Args:
        value: of which only the type is told where it is very large.
        size: bytes of its pickle.
    """
    if size > LARGEST_RENDERED:
        return f"<{type(value).__name__}, {size} bytes>"
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        try:
            text = str(value)
        except Exception as error:  # noqa: BLE001 - a user's __str__ may raise anything; a text must not lose the value
            text = f"<{type(value).__name__}, whose text cannot be made: {error}>"
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def versions() -> str:
    """What decides whether a pickle made here can be read there: `name version` words."""
    return f"python {platform.python_version()}, cloudpickle {cloudpickle.__version__}, rayworkflow {library_version()}"


@cache
def library_version() -> str:
    """Of this package; `0+unpacked` where it was put on the path without being installed."""
    try:
        return metadata.version("rayworkflow")
    except metadata.PackageNotFoundError:
        return "0+unpacked"
