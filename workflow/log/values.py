"""Pickles of the user's values, with marks for what is stored elsewhere: outcomes of parents, contents of Ray objects.

While a value is pickled, a `Reducer` of the engine replaces such objects with marks. While it is unpickled, a `Resolve`
of the engine returns what each mark represents. cloudpickle does the rest. Does not need Ray.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from workflow.errors import CorruptLogError, InvalidInputError, WorkflowError
from workflow.log import lookups, stored_names
from workflow.log.pickled import Fetched, Pickled, PickleWriter
from workflow.log.version import library_version

LONGEST_TEXT = 16 * 1024
"""Characters of a rendered value; the rest is cut off."""

LARGEST_RENDERED = 16 * 1024 * 1024
"""Bytes of a pickle from which its value is not rendered: that would take several times the memory of the value."""

Reducer = Callable[[Any], "tuple[Any, ...] | None"]
"""Called for each object that pickle cannot store by itself; returns the result of `mark`, or None to keep it."""

Resolve = Callable[[str, str], Any]
"""Called for each mark with its kind and its name; returns the object that it represents."""


def dumps(value: Any, reduce: Reducer) -> bytes | Pickled:
    """Pickle a value. A large result refers to the memory of the value, which must not change until it is stored.

    Raises:
        InvalidInputError: an object in the value cannot be pickled; the message contains pickle's reason.
        StoreUnavailableError: the reducer could not store an object that it replaces.
    """
    out = PickleWriter()
    pickler = _Pickler(out, reduce)
    try:
        pickler.dump(value)
    except WorkflowError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"a {type(value).__name__} cannot be pickled: {type(error).__name__}: {error}; pass data instead of open "
            "files, locks, generators or connections, and create those inside the step"
        ) from error
    return out.result()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    def __init__(self, out: PickleWriter, reduce: Reducer) -> None:
        super().__init__(out, protocol=5, buffer_callback=out.take_buffer)
        self._reduce = reduce

    def reducer_override(self, obj: Any) -> Any:
        """Pickle's hook: calls the reducer first, then cloudpickle's own."""
        if isinstance(obj, CodeType):
            return self._with_its_file(obj)
        reduced = self._reduce(obj)
        if reduced is None and isinstance(obj, (FunctionType, type)):
            reduced = _public_name(obj)
        if reduced is None:
            reduced = lookups.reduced_wrapper(obj)
        return self._reduced_by_cloudpickle(obj) if reduced is None else reduced

    def _reduced_by_cloudpickle(self, obj: Any) -> Any:
        if lookups.pretends_to_be_a_function(obj):
            return NotImplemented  # its own class decides how it is pickled
        if not isinstance(obj, (FunctionType, type)):
            return lookups.reduced_global(obj, self.dispatch_table)
        try:
            return super().reducer_override(obj)
        except Exception:  # the module of a function may raise anything for a name that it does not have
            if not isinstance(obj, FunctionType):
                raise
            return self._dynamic_function_reduce(obj)

    def _with_its_file(self, code: CodeType) -> tuple[Any, ...]:
        """Keep the file name of code, which tracebacks of steps show; cloudpickle 3.1.3 drops it."""
        make, args = self.dispatch_table[CodeType](code)
        return make, tuple(code.co_filename if arg == "<dynamic-code>" else arg for arg in args)


def _public_name(obj: Any) -> tuple[Any, ...] | None:
    """Replace a public function or class of `workflow` with its public name, so that its module may change later."""
    home = getattr(obj, "__module__", None)
    if not isinstance(home, str) or not home.startswith("workflow."):
        return None
    name: str = obj.__name__
    package: Any = sys.modules["workflow"]
    if name in package.__all__ and home not in stored_names.PUBLIC_MODULES and getattr(package, name) is obj:
        return stored_names.public, (name,)
    return None


_environment = threading.local()


def mark(kind: str, name: str) -> tuple[Any, ...]:
    """Return what a Reducer must return to replace an object with a mark.

    Args:
        kind: of the object; see `stored_names.mark`.
        name: its name among the objects of this kind.
    """
    return stored_names.mark, (kind, name)


def resolve_mark(kind: str, name: str) -> Any:
    """Return the object that a mark represents. Called by `stored_names.mark` while `loads` runs in this thread."""
    resolve: Resolve | None = getattr(_environment, "resolve", None)
    if resolve is None:
        raise CorruptLogError(f"a stored value refers to {kind} {name}, but is not read by `loads`")
    return resolve(kind, name)


def loads(data: bytes | Pickled | Fetched, resolve: Resolve, written_by: str = "") -> Any:
    """Unpickle what `dumps` made.

    Args:
        data: the pickle; a Fetched object cannot be used again afterwards.
        resolve: returns the object that a mark represents.
        written_by: versions that pickled it, for error messages.

    Raises:
        InvalidInputError: it cannot be unpickled here; the message names the versions of both sides.
        StoreUnavailableError, CorruptLogError: the object of a mark cannot be read.
    """
    with _resolving(resolve):
        try:
            if isinstance(data, bytes):
                return pickle.loads(data)
            return (Fetched.copy_of(data) if isinstance(data, Pickled) else data).load()
        except WorkflowError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"a stored value cannot be unpickled: {type(error).__name__}: {error}; written by "
                f"{written_by or 'an unknown version'}, read by {versions()}; install the module that it needs, or "
                "resume the workflow with the versions that wrote it"
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
    """Return a value as JSON if possible, else as plain text, for readers that must not unpickle. At most 16 KiB.

    Args:
        value: any object; it may have no text.
        size: size of its pickle in bytes; above `LARGEST_RENDERED` only the type of the value is rendered.
    """
    if size > LARGEST_RENDERED:
        return f"<{type(value).__name__}, {size} bytes>"
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        try:
            text = str(value)
        except Exception as error:  # noqa: BLE001 - a user's __str__ may raise anything; a text must not lose the value
            text = f"<{type(value).__name__}, which has no text: {error}>"
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def versions() -> str:
    """Return the versions that decide whether a pickle can be read elsewhere, as `name version` words."""
    return f"python {platform.python_version()}, cloudpickle {cloudpickle.__version__}, rayworkflow {library_version()}"
