"""Pickles of the user's values, with marks for what is stored elsewhere: outcomes of parents, contents of Ray objects.

While a value is pickled, a `Reducer` of the engine replaces such objects with marks. While it is unpickled, a `Resolve`
of the engine returns what each mark represents. cloudpickle does the rest. Does not need Ray.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
import platform
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from workflow.errors import CorruptLogError, InvalidInputError, WorkflowError
from workflow.log import stored_function, stored_names
from workflow.log.pickled import Fetched, Pickled
from workflow.log.pickler import Reducer, dump, dumps
from workflow.log.stored_function import LoadedFunction, StoredFunction
from workflow.log.version import library_version

logger = logging.getLogger(__name__)

__all__ = [
    "LONGEST_TEXT", "Reducer", "Resolve", "dump", "dumps", "load_function", "load_nested", "loads", "mark",
    "resolve_mark", "versions",
]  # fmt: skip

LONGEST_TEXT = 16 * 1024
"""Characters of the message of an exception; the rest is cut off."""

Resolve = Callable[[str, str], Any]
"""Called for each mark with its kind and its name; returns the object that it represents."""


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
        raise CorruptLogError(
            f"cannot unpickle a stored value by itself: it refers to {kind} {name}; read it with workflow.get_output"
        )
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
        except (Exception, SystemExit) as error:  # a module that is imported here may exit, as a script does
            raise InvalidInputError(_unpickling_failed(error, written_by)) from error


def _unpickling_failed(error: BaseException, written_by: str) -> str:
    failed = f"a stored value cannot be unpickled: {type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{failed}; {stored_function.remedy(error.name)}"
    if isinstance(error, MemoryError):
        return f"{failed}; give the process more memory, for example with the option memory of the step that takes it"
    return (
        f"{failed}; written by {written_by or 'a version that is not recorded'}, read by {versions()}; provide the "
        "version of its module that wrote it, for example in the runtime_env or the image of the workers"
    )


def load_function(stored: StoredFunction, resolve: Resolve, written_by: str = "") -> LoadedFunction:
    """Return the function that this process executes for a stored function; raises as `loads` does."""
    return stored_function.load(stored, lambda data: loads(Pickled([data]), resolve, written_by))


def load_nested(stored: StoredFunction) -> Any:
    """Return the function of a step that is inside another value. Called by `stored_names.loaded` within `loads`."""
    loaded = load_function(stored, resolve_mark)
    if loaded.notice:
        _log_once(loaded.notice)
    return loaded.function


@functools.lru_cache(1_000)
def _log_once(notice: str) -> None:
    """Log a notice once in this process. Each step that takes the value loads the function again."""
    logger.warning("%s", notice)


@contextlib.contextmanager
def _resolving(resolve: Resolve) -> Iterator[None]:
    before = getattr(_environment, "resolve", None)
    _environment.resolve = resolve
    try:
        yield
    finally:
        _environment.resolve = before


def versions() -> str:
    """Return the versions that decide whether a pickle can be read elsewhere, as `name version` words."""
    return f"python {platform.python_version()}, cloudpickle {cloudpickle.__version__}, rayworkflow {library_version()}"
