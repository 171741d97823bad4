"""Finds functions and classes by module and name in this process, and rebuilds classes that it does not have.

A stored value names its classes. It gets the class that the reading process has under this name, so that `==`,
`isinstance` and `except` work after a restart. Only a process without it builds the class from its stored definition,
for example a worker for a class of the user's script. Used by `values` and `stored_function`.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from cloudpickle import cloudpickle

from workflow.log import stored_names
from workflow.log.code_digest import innermost, is_ray_task, is_step

MAIN_MODULES: Final = frozenset({"__main__", "__mp_main__"})
"""Modules that no other process can import: the user's script, in each process under the same name."""

Classes = dict[tuple[str, str], type]
"""(module, qualified name) -> class that this process built from its definition."""

_classes: ContextVar[Classes | None] = ContextVar("classes", default=None)


@contextlib.contextmanager
def class_scope(classes: Classes) -> Iterator[None]:
    """Resolve the names of classes that this process does not have, and remember those that are built.

    Args:
        classes: the classes that are known; those that are built in the `with` block are added.
    """
    token = _classes.set(classes)
    try:
        yield
    finally:
        _classes.reset(token)


def add_to_scope(classes: Classes) -> None:
    """Let the running step's values use the classes of its function."""
    scope = _classes.get()
    if scope is not None:
        scope.update(classes)


def module_name(function: types.FunctionType) -> str:
    """Return the module whose globals a function uses, if another process can import it; else an empty string."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    is_real = isinstance(module, types.ModuleType) and vars(module) is function.__globals__
    return str(name) if is_real and is_importable(module) else ""


def is_importable(module: Any) -> bool:
    """Return whether another process can probably import a module of this process."""
    return getattr(module, "__spec__", None) is not None and module.__name__ not in MAIN_MODULES


def load_module(name: str) -> types.ModuleType:
    """Import a module; `__main__` is that of this process.

    Raises:
        Exception: whatever the code of the module raises; ImportError if it exits, as a script does.
    """
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except SystemExit as error:
        raise ImportError(f"module {name!r} exits with {error.code!r} when it is imported") from error


def named(module: types.ModuleType, qualname: str) -> Any:
    """Return what a module has under a qualified name, or None. An object whose `__getattr__` raises has nothing."""
    found: Any = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except Exception:  # noqa: BLE001 - a user's `__getattr__` may raise anything
            return None
    return found


def is_step_body(function: types.FunctionType) -> bool:
    """Return whether a function is that of the step or Ray task with its name, in a module that others can import.

    A decorator of another module may have made the function, so that its globals are those of that module.
    """
    module = sys.modules.get(function.__module__)
    if not isinstance(module, types.ModuleType) or not is_importable(module):
        return False
    found = named(module, function.__qualname__)
    return (is_step(found) or is_ray_task(found)) and innermost(found) is function


def home_module(function: types.FunctionType) -> str:
    """Return the module that a process needs for a function; an empty string if no other process can import it."""
    return function.__module__ if is_step_body(function) else module_name(function)


def class_here(module: str, qualname: str) -> type | None:
    """Return this process's class of a name, or None."""
    try:
        found = named(load_module(module), qualname)
    except Exception:  # noqa: BLE001 - importing a user's module may raise anything; the stored definition is left
        return None
    is_same_name = isinstance(found, type) and (found.__module__, found.__qualname__) == (module, qualname)
    return found if is_same_name else None


def reduce_class(found: type, *, by_value: bool) -> tuple[Any, ...] | None:
    """Return how a class is pickled that has a name but may be missing in the process that reads it.

    Args:
        found: the class.
        by_value: whether to store the definition of a class that other processes can import, too.

    Returns:
        The result of a reducer; None to leave it to cloudpickle, which stores importable classes by name.
    """
    reduced = cloudpickle._dynamic_class_reduce(found) if by_value else cloudpickle._class_reduce(found)
    if not isinstance(reduced, tuple) or len(reduced) != 6:
        return None
    make, args, state = reduced[:3]
    if make is cloudpickle._make_skeleton_class and vars(found).get("__slots__"):
        args = _with_slots(args, found)
    name = (found.__module__, found.__qualname__)
    tracker = cloudpickle._get_or_create_tracker_id(found)
    return stored_names.named_class, (*name, make, args), (*name, tracker, state), None, None, stored_names.define_class


def _with_slots(args: tuple[Any, ...], found: type) -> tuple[Any, ...]:
    """Let the class that is built have the same slots; cloudpickle 3.1.3 builds one without.

    Its objects would have a `__dict__`, and a process that has the class could not load them.
    """
    kind, name, bases, namespace, *more = args
    return kind, name, bases, {**namespace, "__slots__": found.__slots__}, *more  # type: ignore[attr-defined]


def resolve_class(module: str, qualname: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    """Return the class that a stored value names: this process's, that of the running step's function, or a new one."""
    is_local = "<" in qualname  # defined within a function, so that the name may have many classes
    here = None if is_local else class_here(module, qualname)
    if here is not None:
        return here
    classes = _classes.get()
    if is_local or classes is None:
        return _built(make, args, qualname)
    name = (module, qualname)
    if name not in classes:
        classes[name] = _built(make, args, qualname)
    return classes[name]


def _built(make: Callable[..., type], args: tuple[Any, ...], qualname: str) -> type:
    """Return a new class with its qualified name, which cloudpickle 3.1.3 drops; the next reader needs it."""
    built = make(*args)
    type.__setattr__(built, "__qualname__", qualname)
    return built


def define_class(found: type, state: tuple[str, str, str, Any]) -> type:
    """Complete a class that `resolve_class` built. A class that it found stays as it is.

    Args:
        found: the class.
        state: its module, its qualified name, cloudpickle's id of the class, and what cloudpickle sets.
    """
    module, qualname, tracker, definition = state
    is_built = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(found) == tracker
    if is_built and ("<" in qualname or class_here(module, qualname) is not found):
        cloudpickle._class_setstate(found, definition)
    return found
