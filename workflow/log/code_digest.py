"""Compares code between processes: a digest of a function and of everything of its own module that it uses.

Two processes that imported the same source compute the same digest. Comments, line numbers and file names do not count.
The state of a module does not count either, because each process has its own: connections, registries, counters.
What counts of a constant or an object is the source from which the module makes it.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from workflow.log import source_names
from workflow.log.code_text import data_text, is_data, is_plain, read_code, text
from workflow.log.source_names import Binding, SourceNames
from workflow.model.signatures import CACHED

PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Bytecode, and therefore a digest, is comparable only within one minor version of Python."""

_CLASS_INTERNALS: Final = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "_abc_impl", "__firstlineno__", "__static_attributes__"}
    | {"__annotations__", "__annotate_func__", "__annotate__", "__annotations_cache__"}  # some are set on first use
)
_CONTAINERS: Final = (list, tuple, dict)


def digest(function: Callable[..., Any]) -> str:
    """Return the digest of a function's code.

    It covers the function and the functions inside its decorators. It also covers the functions, classes and
    constants of its module that it names, directly or through others. Of other modules only the names count.

    Args:
        function: a Python function, a method, or a partial of one.

    Returns:
        32 hexadecimal digits; an empty string if there is no Python code, for example for a function written in C.
    """
    inner = innermost(function)
    if not isinstance(inner, types.FunctionType):
        return ""
    walk = _Walk(_unwrapped(inner).__globals__)
    walk.visit(inner)
    return hashlib.sha256("\n".join(walk.lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def innermost(function: Any) -> Any:
    """Return what a step, a Ray task, a partial or a bound method calls."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif is_step(function):
            function = function.function
        elif is_ray_task(function):
            function = function._function
        else:
            return function


def _unwrapped(function: types.FunctionType) -> types.FunctionType:
    """Return the function inside the decorators, which may be of other modules than the function."""
    seen = set()
    while function not in seen:
        seen.add(function)
        wrapped = innermost(vars(function).get("__wrapped__"))
        if isinstance(wrapped, types.FunctionType):
            function = wrapped
    return function


def is_step(value: Any) -> bool:
    """Return whether a value is a `StepFunction`. The class is not imported here, because it needs Ray."""
    steps = sys.modules.get("workflow.steps")
    return steps is not None and type(value) is getattr(steps, "StepFunction", None)


def is_ray_task(value: Any) -> bool:
    """Return whether a value is a function with `@ray.remote`. Ray is not imported here."""
    tasks = sys.modules.get("ray.remote_function")
    return tasks is not None and type(value) is getattr(tasks, "RemoteFunction", None)


class _Walk:
    """Visits a function and what it uses of its module, each once, and describes each in a line."""

    def __init__(self, module_globals: dict[str, Any]) -> None:
        self._globals = module_globals
        self._module = module_globals.get("__name__")
        self._source = _source_names(self._module)
        self._seen: set[int | str] = set()
        self.lines: list[str] = []

    def visit(self, found: Any, *, captured: bool = False) -> None:
        """Describe a function or a class, or those that a wrapper or a container of this module contains.

        Args:
            found: any object.
            captured: whether a function inside it counts with its code, whatever its module. This is so for what a
                decorator or a factory received.
        """
        if _is_proxy(found):
            return
        if isinstance(found, types.FunctionType):
            self._visit_function(found, captured)
        elif isinstance(found, type):
            self._visit_class(found)
        else:
            for part in _parts(found):
                if not isinstance(found, _CONTAINERS) or self._is_own(part):
                    self.visit(part, captured=captured)

    def _is_first_visit(self, key: int | str) -> bool:
        first = key not in self._seen
        self._seen.add(key)
        return first

    def _is_own(self, found: Any) -> bool:
        return getattr(innermost(found), "__module__", None) == self._module

    def _visit_name(self, name: str) -> None:
        """Describe a global name of the module."""
        if name not in self._globals or not self._is_first_visit(name):
            return
        found = self._globals[name]
        if self._source is None:
            if self._module == "__main__" and not _is_proxy(found):  # a notebook: a copy takes its present objects
                self._visit_object(name, found)
        else:
            binding = self._source.scopes[""].get(name)
            self._describe(name, binding)
            if name in self._source.rebound:  # each process has its own
                return
            if binding is not None and binding.is_literal and is_plain(found):
                self.lines.append(f"constant {name} {text(found)}")
        if type(found) is types.ModuleType:
            self.lines.append(f"module {name} {found.__name__}")
        self.visit(found)

    def _visit_object(self, name: str, found: Any) -> None:
        kind = type(found)
        if is_data(found):
            self.lines.append(f"constant {name} {data_text(found)}")
        elif kind.__module__ == self._module:
            self.lines.append(f"object {name} {data_text(getattr(found, '__dict__', None))}")
            self._visit_class(kind)

    def _describe(self, name: str, binding: Binding | None) -> None:
        if binding is not None:
            self.lines.append(f"source {name} {binding.texts}")
            for used in binding.uses:
                self._visit_name(used)

    def _visit_function(self, function: types.FunctionType, captured: bool) -> None:
        if not self._is_first_visit(id(function)):
            return
        own = function.__globals__ is self._globals
        if not own and function.__closure__ is None and not captured:
            if not _is_library(function):
                self.lines.append(f"function {function.__module__} {function.__qualname__}")
            return
        defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        code = read_code(function.__code__)
        self.lines.append(f"code {code.text} {[text(each) for each in defaults]}")
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.visit(default)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            held = cell_content(cell)
            self.visit(held, captured=True)
            if name not in code.rebound_cells and not _is_proxy(held) and is_plain(held):
                self.lines.append(f"cell {name} {text(held)}")
        self.visit(vars(function).get("__wrapped__"), captured=True)
        if own:
            for name in code.global_names:
                self._visit_name(name)

    def _visit_class(self, found: type) -> None:
        if _is_library(found) or not self._is_first_visit(id(found)):
            return
        self.lines.append(f"class {found.__module__} {found.__qualname__}")
        if found.__module__ != self._module:
            return
        for base in found.__bases__:
            self.visit(base)
        members: Mapping[str, Any] = found.__members__ if issubclass(found, Enum) else {}
        self.lines.append(f"members {[(name, text(each.value)) for name, each in members.items()]}")
        source = self._source.scopes.get(found.__qualname__) if self._source is not None else None
        for name, binding in (source or {}).items():
            self._describe(f"{found.__qualname__}.{name}", binding)
        for name, member in sorted(vars(found).items()):
            parts = _parts(member) if name not in members and name not in _CLASS_INTERNALS else ()
            if parts:
                self.lines.append(f"member {name}")
                for part in parts:
                    self.visit(part)
            elif source is None and is_plain(member) and name not in _CLASS_INTERNALS:
                self.lines.append(f"member {name} {text(member)}")


def _is_library(found: Any) -> bool:
    """Return whether a function or a class belongs to this library, which may move it to another module."""
    return str(found.__module__).partition(".")[0] == "workflow"


def _is_proxy(found: Any) -> bool:
    """Return whether an object claims to be of another class, so that looking at it may execute the user's code."""
    return any("__class__" in vars(kind) for kind in type(found).__mro__ if kind is not object)


def _parts(found: Any) -> tuple[Any, ...]:
    """Return the functions and classes that an object is made of, as far as they are code and not state."""
    if isinstance(found, types.FunctionType | type):
        return (found,)
    if isinstance(found, staticmethod | classmethod):
        return (found.__func__,)
    if isinstance(found, property):
        return tuple(each for each in (found.fget, found.fset, found.fdel) if each is not None)
    if isinstance(found, functools.cached_property | functools.partialmethod):
        return (found.func,)
    if isinstance(found, _CONTAINERS):
        values = found.values() if isinstance(found, dict) else found
        return tuple(each for each in values if isinstance(innermost(each), types.FunctionType | type))
    inner = innermost(found)
    if inner is not found:
        return (inner,)
    wrapped = getattr(found, "__wrapped__", None) if type(found) is CACHED else None
    return (wrapped,) if wrapped is not None else ()


def _source_names(module: str | None) -> SourceNames | None:
    """Return the names that the source of a module binds; None if there is no source, as in a notebook."""
    found = sys.modules.get(module or "")
    loader = getattr(getattr(found, "__spec__", None), "loader", None) or getattr(found, "__loader__", None)
    get_source = getattr(loader, "get_source", None)
    return _read_source(module, get_source) if module and get_source is not None else None


@functools.cache
def _read_source(module: str, get_source: Callable[[str], str | None]) -> SourceNames | None:
    try:
        source = get_source(module)
        return source_names.read(source) if source is not None else None
    except (ImportError, OSError, SyntaxError, ValueError):  # the source is gone, or is being written
        return None


def cell_content(cell: types.CellType) -> Any:
    """Return the value of a variable of a closure; None if the variable has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
