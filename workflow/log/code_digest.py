"""Compares code between processes: a digest of a function and of everything of its own module that it uses.

Two processes that imported the same source compute the same digest. Comments, line numbers and file names do not count.
The state of a module does not count either, because each process has its own: connections, registries, counters.
Constants count if the source of the module gives them as literals.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final

PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Bytecode, and therefore a digest, is comparable only within one minor version of Python."""

_PLAIN: Final = (bool, int, float, complex, str, bytes)
_CLASS_INTERNALS: Final = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "_abc_impl", "__firstlineno__", "__static_attributes__"}
)
_REBINDING: Final = frozenset({dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]})


def digest(function: Callable[..., Any]) -> str:
    """Return the digest of a function's code.

    It covers the function and the functions inside its decorators. It also covers the functions, classes and literal
    constants of its module that it names, directly or through others. Of other modules only the names count.

    Args:
        function: a Python function, a method, or a partial of one.

    Returns:
        32 hexadecimal digits; an empty string if there is no Python code, for example for a function written in C.
    """
    inner = innermost(function)
    if not isinstance(inner, types.FunctionType):
        return ""
    walk = _Walk(inner.__globals__)
    walk.visit(inner)
    return hashlib.sha256("\n".join(walk.lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def innermost(function: Any) -> Any:
    """Return what a step, a partial or a bound method calls."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif is_step(function):
            function = function.function
        else:
            return function


def is_step(value: Any) -> bool:
    """Return whether a value is a `StepFunction`. The class is not imported here, because it needs Ray."""
    steps = sys.modules.get("workflow.steps")
    return steps is not None and type(value) is getattr(steps, "StepFunction", None)


class _Walk:
    """Visits a function and what it uses of its module, each once, and describes each in a line."""

    def __init__(self, module_globals: dict[str, Any]) -> None:
        self._globals = module_globals
        self._module = module_globals.get("__name__")
        self._seen: set[int] = set()
        self.lines: list[str] = []

    def visit(self, found: Any, name: str = "") -> None:
        inner = innermost(found)
        if isinstance(inner, types.FunctionType):
            self._visit_function(inner)
        elif isinstance(inner, type):
            self._visit_class(inner)
        elif isinstance(inner, types.ModuleType):
            self.lines.append(f"module {name} {inner.__name__}")
        elif _is_plain(inner) and name in literals(self._module, frozenset(self._globals)):
            self.lines.append(f"constant {name} {_text(inner)}")

    def _is_first_visit(self, found: Any) -> bool:
        first = id(found) not in self._seen
        self._seen.add(id(found))
        return first

    def _visit_function(self, function: types.FunctionType) -> None:
        if not self._is_first_visit(function):
            return
        own = function.__globals__ is self._globals
        if not own and function.__closure__ is None:  # a function of another module
            self.lines.append(f"function {function.__module__} {function.__qualname__}")
            return
        defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        self.lines.append(f"code {_text(function.__code__)} {[_text(each) for each in defaults]}")
        for cell in function.__closure__ or ():
            held = _cell_content(cell)
            if isinstance(innermost(held), types.FunctionType | type):
                self.visit(held)
        if own:
            for name in _names(function.__code__):
                if name in self._globals:
                    self.visit(self._globals[name], name)

    def _visit_class(self, found: type) -> None:
        if not self._is_first_visit(found):
            return
        self.lines.append(f"class {found.__module__} {found.__qualname__}")
        if found.__module__ != self._module:
            return
        for base in found.__bases__:
            self.visit(base)
        if issubclass(found, Enum):
            self.lines.append(f"members {[(each.name, _text(each.value)) for each in found]}")
            return
        for name, member in sorted(vars(found).items()):
            if name not in _CLASS_INTERNALS:
                self.lines.append(f"member {name}")
                self._visit_member(member)

    def _visit_member(self, member: Any) -> None:
        if isinstance(member, staticmethod | classmethod):
            self.visit(member.__func__)
        elif isinstance(member, property):
            for accessor in (member.fget, member.fset, member.fdel):
                if accessor is not None:
                    self.visit(accessor)
        elif isinstance(innermost(member), types.FunctionType | type):
            self.visit(member)
        else:
            self.lines.append(_text(member))


def literals(module: str | None, names: frozenset[str]) -> frozenset[str]:
    """Return the names that the source of a module binds once, to a literal.

    Names that a function of the module binds again are left out, and so is None, which is often a placeholder.

    Args:
        module: name of the module.
        names: all names of the module. They are returned for a notebook, which has no source.
    """
    found = sys.modules.get(module or "")
    loader = getattr(getattr(found, "__spec__", None), "loader", None) or getattr(found, "__loader__", None)
    get_code = getattr(loader, "get_code", None)
    if get_code is None:
        return names if module == "__main__" else frozenset()
    return _literals_in(module, get_code)


@functools.cache
def _literals_in(module: str, get_code: Callable[[str], types.CodeType | None]) -> frozenset[str]:
    try:
        code = get_code(module)
    except (ImportError, OSError, SyntaxError, ValueError):  # the source is gone, or is being written
        code = None
    if code is None:
        return frozenset()
    bound: dict[str, int] = {}
    literal: set[str] = set()
    previous = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_NAME", "STORE_GLOBAL"):
            name = str(instruction.argval)
            bound[name] = bound.get(name, 0) + 1
            if previous is not None and previous.opname == "LOAD_CONST" and _is_plain(previous.argval):
                literal.add(name)
        previous = instruction
    rebound = {name for nested in _nested(code) for name in _rebound_names(nested)}
    return frozenset(name for name in literal - rebound if bound[name] == 1)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)


def _rebound_names(code: types.CodeType) -> Iterator[str]:
    return (str(each.argval) for each in dis.get_instructions(code) if each.opcode in _REBINDING)


def _names(code: types.CodeType) -> list[str]:
    """Return the global names and attributes that code uses, in a fixed order."""
    return list(dict.fromkeys((*code.co_names, *(name for nested in _nested(code) for name in nested.co_names))))


def _cell_content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def _text(value: Any) -> str:
    """Return a text that is equal for equal code and constants in every process. Other values give their type only."""
    if isinstance(value, types.CodeType):
        parts = (
            value.co_name, value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags,
            value.co_code.hex(), value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars,
            [_text(constant) for constant in value.co_consts],
        )  # fmt: skip
        return repr(parts)
    if type(value) is tuple:
        return f"({','.join(map(_text, value))})"
    if type(value) is frozenset:  # its order depends on the hash seed of the process
        return f"{{{','.join(sorted(map(_text, value)))}}}"
    if value is None or value is Ellipsis or type(value) in _PLAIN:
        return f"{type(value).__name__} {value!r}"
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
