"""Puts a mutant into modules that are already imported, if only bodies of functions differ.

This saves the import of the project and the collection of its tests, which take longer than most tests.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any


def changed_functions(before: str, after: str) -> dict[tuple[str, ...], CodeType] | None:
    """Return the new code of each function whose body differs; None if anything else differs.

    Args:
        before: the text of the module.
        after: the text of the mutant.
    """
    old, new = (dict(_bodies(compile(text, "module", "exec"), ())) for text in (before, after))
    if old.keys() != new.keys():
        return None
    changed: dict[tuple[str, ...], CodeType] = {}
    for names, (is_function, code) in new.items():
        was = old[names][1]
        if is_function and code != was:
            changed[names] = code
        elif not is_function and _own_part(code) != _own_part(was):
            return None
    return changed


def _bodies(code: CodeType, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[bool, CodeType]]]:
    """Yield the code of the module, of its classes and of their functions, each with its names."""
    yield names, (False, code)
    for number, inner in enumerate(each for each in code.co_consts if isinstance(each, CodeType)):
        if inner.co_flags & inspect.CO_OPTIMIZED:
            place = (*names, inner.co_name)
            yield place if inner.co_name.isidentifier() else (*place, str(number)), (True, inner)
        else:
            yield from _bodies(inner, (*names, inner.co_name))


def _own_part(code: CodeType) -> tuple[object, ...]:
    """Return what a body executes, without the functions and classes in it."""
    constants = tuple((type(each), each) for each in code.co_consts if not isinstance(each, CodeType))
    return code.co_code, constants, code.co_names


def put_into(module: ModuleType, changed: dict[tuple[str, ...], CodeType]) -> bool:
    """Give the functions of a module their new code. Return False, with nothing changed, if one cannot be found.

    Args:
        module: the imported module.
        changed: the new code of functions, by their names.
    """
    found = [(_function(module, names), code) for names, code in changed.items()]
    if not all(
        isinstance(each, FunctionType) and each.__code__.co_freevars == code.co_freevars for each, code in found
    ):
        return False
    for function, code in found:
        function.__code__ = code
    return True


def _function(module: ModuleType, names: tuple[str, ...]) -> Any:
    found: Any = module
    for name in names:
        found = inspect.getattr_static(found, name, None)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, functools.cached_property):
        found = found.func
    elif isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    return inspect.unwrap(found) if callable(found) else None


def imported(path: str) -> ModuleType | None:
    """Return the imported module at a path below a folder of `sys.path`."""
    return next((each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == path), None)
