"""The function of a step as it is stored with a run, and which code a process executes for it.

A function is stored in two forms. The *reference* uses the module of the process that loads it. The *copy* contains the
code and the globals that it uses. A process executes the module's own function if it is the same code, and the
copy if the module is missing or differs. docs/steps.md has the rule as a table.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from workflow.errors import InvalidInputError
from workflow.log import definitions, stored_names
from workflow.log.code_digest import PYTHON, digest, innermost

LARGEST_COPY: Final = 1 << 20
"""Size in bytes up to which a copy is stored beside a reference. Larger ones contain data, not code."""

ORIGIN: Final = "__workflow_origin__"
"""Attribute of a copied function: the `(digest, source)` of the function that it was copied from."""


@dataclass(frozen=True, slots=True)
class StoredFunction:
    """The function of a step, as stored.

    Attributes:
        module: the module whose globals the function uses.
        qualname: its qualified name in the module.
        digest: the digest of its code; empty if it has no Python code.
        python: the minor version of Python that the digest and the copy need.
        source: path of the file that contains the code, or the notebook; empty if there is none.
        reference: the pickle that uses the module of the process that loads it; None for the user's script.
        copy: the pickle that contains the code; None if it could not be made.
        no_copy: why there is no copy; empty if there is one.
    """

    module: str
    qualname: str
    digest: str
    python: str
    source: str
    reference: bytes | None
    copy: bytes | None
    no_copy: str

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.module, self.qualname, self.digest, self.python, self.source)
        return stored_names.function, (*fields, self.reference, self.copy, self.no_copy)


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A function that is ready to be called.

    Attributes:
        function: what to call.
        notice: what a user should know about the choice of the code; empty if the code is as expected.
    """

    function: Any
    notice: str = ""


def store(
    function: Callable[..., Any], pickle_reference: Callable[[Any], bytes], pickle_copy: Callable[[Any, str], bytes]
) -> StoredFunction | None:
    """Return a function as it is stored.

    Args:
        function: what a step calls.
        pickle_reference: pickles a function so that it uses the module of the process that loads it.
        pickle_copy: pickles a function with everything of a module that it uses, given the name of the module.

    Returns:
        The stored form. None if the function has no Python code or belongs to this library: its plain pickle is stored.

    Raises:
        InvalidInputError: it cannot be pickled.
    """
    inner = innermost(function)
    name = str(getattr(inner, "__module__", None) or "")  # `exec` makes functions without a module
    if not isinstance(inner, types.FunctionType) or name.partition(".")[0] == "workflow":
        return None
    module = definitions.home_module(inner)
    code, source = origin(inner)
    reference = pickle_reference(function) if module else None
    home = module or name
    if reference is None:
        return StoredFunction(home, inner.__qualname__, code, PYTHON, source, None, pickle_copy(function, module), "")
    copy, no_copy = _small_copy(function, module, pickle_copy)
    return StoredFunction(home, inner.__qualname__, code, PYTHON, source, reference, copy, no_copy)


def _small_copy(
    function: Callable[..., Any], module: str, pickle_copy: Callable[[Any, str], bytes]
) -> tuple[bytes | None, str]:
    """Return a copy to store beside a reference, or None and why there is none."""
    try:
        copy = pickle_copy(function, module)
    except InvalidInputError as error:
        return None, str(error)
    if len(copy) > LARGEST_COPY:
        return None, f"the copy would contain {len(copy)} bytes of globals"
    return copy, ""


def load(stored: StoredFunction, unpickle: Callable[[bytes], Any]) -> LoadedFunction:
    """Return the function to execute in this process.

    Raises:
        InvalidInputError: neither form can be executed here. The message names the module and the remedies.
    """
    name = f"{stored.module}.{stored.qualname}"
    here, why = _from_module(stored, unpickle) if stored.reference is not None else (None, "")
    if here is not None and not why:
        return LoadedFunction(here)
    if stored.copy is not None and stored.python == PYTHON:
        classes = ", with the classes of the module that is here" if stored.module in sys.modules else ""
        notice = f"{why}; the copy of {name} that is stored with the run is executed{classes}" if why else ""
        function = unpickle(stored.copy)
        vars(innermost(function))[ORIGIN] = (stored.digest, stored.source)
        return LoadedFunction(function, notice)
    no_copy = stored.no_copy or f"Python {PYTHON} cannot execute the copy, which Python {stored.python} made"
    if here is not None:
        return LoadedFunction(here, f"{why}; the present code of {name} is executed, because {no_copy}")
    raise InvalidInputError(
        f"cannot load function {name}: {why or 'its code is that of a script'}, and there is no copy to execute "
        f"({no_copy}); {remedy(stored.module)}"
    )


def remedy(module: str) -> str:
    """Return what a user can do if workers lack a module."""
    package = module.partition(".")[0]
    return (
        f"provide {package!r} to the workers: with ray.init(runtime_env={{'working_dir': ...}}), 'py_modules' or "
        "'pip', or in their image"
    )


def origin(function: types.FunctionType) -> tuple[str, str]:
    """Return the digest of a function's code and the file of its source; for a copy, those of the original."""
    copied_from: tuple[str, str] | None = vars(function).get(ORIGIN)
    if copied_from is not None:
        return copied_from
    return digest(function), _source(function)


def _source(function: types.FunctionType) -> str:
    name = function.__module__
    if name in definitions.MAIN_MODULES:
        return main_source()
    return _path(getattr(sys.modules.get(str(name)), "__file__", None) or function.__code__.co_filename)


def main_source() -> str:
    """Return the file of this process's script, or its notebook; empty for standard input and an interactive shell."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None) or getattr(main, "__vsc_ipynb_file__", None)
    return _path(path or os.environ.get("JPY_SESSION_NAME"))


def _path(given: object) -> str:
    """Return the real path of a file; empty for code without a file, whose name is in angle brackets."""
    path = str(given or "")
    return "" if path.startswith("<") or not path else os.path.realpath(path)


def _from_module(stored: StoredFunction, unpickle: Callable[[bytes], Any]) -> tuple[Any, str]:
    """Return the function of this process's module, or None, and why the module is not the one that was stored."""
    assert stored.reference is not None
    try:
        definitions.load_module(stored.module)
    except Exception as error:  # noqa: BLE001 - the code of a user's module may raise anything
        return None, f"module {stored.module!r} cannot be imported here ({type(error).__name__}: {error})"
    try:
        function = unpickle(stored.reference)
    except InvalidInputError as error:
        return None, f"module {stored.module!r} differs from the one that the run was started with ({error})"
    if stored.python != PYTHON:
        return function, f"the run was started with Python {stored.python}, and this is Python {PYTHON}"
    inner = innermost(function)
    if not isinstance(inner, types.FunctionType) or origin(inner)[0] != stored.digest:
        return function, f"module {stored.module!r} differs from the one that the run was started with"
    return function, ""
