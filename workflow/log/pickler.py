"""The pickler of stored values: cloudpickle, with other rules for functions, steps and classes of the user's code.

`values` and `stored_function` use it. docs/design/0009-which-code-runs.md explains the rules.
"""

from __future__ import annotations

import enum
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

from workflow.errors import InvalidInputError, WorkflowError
from workflow.log import definitions, lookups, stored_names
from workflow.log.code_digest import innermost, is_step
from workflow.log.pickled import Pickled, PickleWriter, whole
from workflow.log.stored_function import ORIGIN, StoredFunction, origin, store
from workflow.model.calls import kind_of

Reducer = Callable[[Any], "tuple[Any, ...] | None"]
"""Called for each object that pickle cannot store by itself; returns what `values.mark` returns, or None to keep it."""


class Form(enum.Enum):
    """How the functions, steps and classes of the user's modules are pickled.

    Attributes:
        VALUE: a step of a module by name with a copy, everything else as cloudpickle does.
        REFERENCE: what belongs to a module by name, and other functions with the globals of their module.
        COPY: what belongs to one module with its code and the globals that it uses.
    """

    VALUE = enum.auto()
    REFERENCE = enum.auto()
    COPY = enum.auto()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Pickles one object.

    Args:
        out: receives the pickle.
        reduce: replaces what is stored elsewhere.
        form: see `Form`.
        home: the module whose code is copied; only for `Form.COPY`.
    """

    def __init__(self, out: PickleWriter, reduce: Reducer, form: Form = Form.VALUE, home: str = "") -> None:
        super().__init__(out, protocol=5, buffer_callback=out.take_buffer)
        self._reduce = reduce
        self._form = form
        self._home = home
        self._root = 0
        self._step_bodies: set[int] = set()

    def dump(self, obj: Any) -> None:
        """Pickle an object."""
        self._root = id(innermost(obj))
        super().dump(obj)

    def reducer_override(self, obj: Any) -> Any:
        """Pickle's hook: calls the reducer first, then the rules of this module, then cloudpickle's own."""
        if isinstance(obj, types.CodeType):
            return self._with_its_file(obj)
        reduced = self._reduce(obj)
        if reduced is None:
            reduced = lookups.reduced_wrapper(obj)
        if reduced is None and not lookups.pretends_to_be_a_function(obj):
            if isinstance(obj, types.FunctionType):
                reduced = _public_name(obj) or self._reduce_function(obj)
            elif isinstance(obj, type):
                reduced = _public_name(obj) or self._reduce_class(obj)
            elif isinstance(obj, _ModuleGlobals):
                reduced = stored_names.module_globals, (obj.module,)
            elif is_step(obj):
                reduced = self._reduce_step(obj)
        return self._reduced_by_cloudpickle(obj) if reduced is None else reduced

    def _reduced_by_cloudpickle(self, obj: Any) -> Any:
        if lookups.pretends_to_be_a_function(obj):
            return NotImplemented  # its own class decides how it is pickled
        if not isinstance(obj, (types.FunctionType, type)):
            return lookups.reduced_global(obj, self.dispatch_table)
        try:
            return super().reducer_override(obj)
        except Exception:  # the module of a function may raise anything for a name that it does not have
            if not isinstance(obj, types.FunctionType):
                raise
            return self._dynamic_function_reduce(obj)

    def _with_its_file(self, code: types.CodeType) -> tuple[Any, ...]:
        """Keep the file name of code, which tracebacks of steps show; cloudpickle 3.1.3 drops it."""
        make, args = self.dispatch_table[types.CodeType](code)
        return make, tuple(code.co_filename if arg == "<dynamic-code>" else arg for arg in args)

    def _reduce_step(self, step: Any) -> tuple[Any, ...] | None:
        module = sys.modules.get(getattr(step, "__module__", ""))
        qualname = getattr(step, "__qualname__", "")
        is_named = definitions.is_importable(module) and definitions.named(module, qualname) is step  # type: ignore[arg-type]
        if self._form is Form.REFERENCE and is_named:
            return stored_names.attribute, (step.__module__, qualname)
        self._step_bodies.add(id(innermost(step)))
        return None

    def _reduce_function(self, function: types.FunctionType) -> tuple[Any, ...] | None:
        if self._form is Form.COPY:
            is_step_body = id(function) == self._root or id(function) in self._step_bodies
            if is_step_body or definitions.module_name(function) == self._home:
                return self._copy_of(function)
            return None
        if definitions.is_step_body(function):
            if self._form is Form.REFERENCE:
                return stored_names.step_body, (function.__module__, function.__qualname__)
            stored = stored_form(function, self._reduce)
            return (stored_names.loaded, (stored,)) if stored is not None else None
        module = definitions.module_name(function)
        if not module or self._form is Form.VALUE:
            return None
        is_named = definitions.named(sys.modules[module], function.__qualname__) is function
        return None if is_named else self._with_globals_of(module, function)

    def _reduce_class(self, found: type) -> tuple[Any, ...] | None:
        is_home = self._form is Form.COPY and found.__module__ == self._home
        return definitions.reduce_class(found, by_value=is_home)

    def _copy_of(self, function: types.FunctionType) -> tuple[Any, ...]:
        make, args, (attributes, slots), *rest = self._dynamic_function_reduce(function)
        is_root = id(function) == self._root  # its origin is in the `StoredFunction`
        if not is_root and id(function) in self._step_bodies:
            attributes = {**attributes, ORIGIN: origin(function)}
        return make, args, (attributes, slots), *rest

    def _with_globals_of(self, module: str, function: types.FunctionType) -> tuple[Any, ...]:
        """Store the code of a function that has no name in its module, but not the globals."""
        make, (code, _, *more), (attributes, slots), *rest = self._dynamic_function_reduce(function)
        slots = {**slots, "__globals__": {}}
        return make, (code, _ModuleGlobals(module), *more), (attributes, slots), *rest


class _ModuleGlobals:
    """The globals of a module, to be pickled as the name of the module."""

    def __init__(self, module: str) -> None:
        self.module = module


def dumps(value: Any, reduce: Reducer, form: Form = Form.VALUE, home: str = "") -> bytes | Pickled:
    """Pickle a value. A large result refers to the memory of the value, which must not change until it is stored.

    Args:
        value: what to pickle.
        reduce: replaces what is stored elsewhere.
        form: how the functions and classes of the user's modules are pickled.
        home: the module whose code is copied; only for `Form.COPY`.

    Raises:
        InvalidInputError: an object in the value cannot be pickled. Its field `reason` is the reason, with advice.
        StoreUnavailableError: the reducer could not store an object that it replaces.
    """
    out = PickleWriter()
    dump(value, reduce, out, form, home)
    return out.result()


def dump(value: Any, reduce: Reducer, out: PickleWriter, form: Form = Form.VALUE, home: str = "") -> None:
    """Pickle a value into a writer; see `dumps`."""
    try:
        Pickler(out, reduce, form, home).dump(value)
    except WorkflowError:
        raise
    except Exception as error:
        reason = _reason(error)
        raise InvalidInputError(f"{kind_of(value)} cannot be pickled: {reason}", reason=reason) from error


def is_too_deep(error: BaseException | None) -> bool:
    """Return whether a value is nested too deeply to be pickled; cloudpickle 3.1.3 replaces the RecursionError."""
    return isinstance(error, RecursionError) or (isinstance(error, pickle.PicklingError) and "recursion" in str(error))


def _reason(error: Exception) -> str:
    """Return why a value cannot be pickled, and what a user can do."""
    raised = f"{type(error).__name__}: {error}"
    if is_too_deep(error):
        return (
            "its objects are nested too deeply for pickle; pass it in a flat form, for example as a list of items that "
            "refer to each other by index"
        )
    if isinstance(error, MemoryError):
        return f"{raised}; this process has too little memory for a copy of it: pass it in parts, or by its address"
    if isinstance(error, pickle.PicklingError) or (isinstance(error, TypeError) and "pickle" in str(error)):
        return (
            f"{raised}; pass data instead of open files, locks, generators or connections, and create those inside the "
            "step"
        )
    return (
        f"{raised}; a method with which its class is pickled raised this, such as __reduce__ or __getstate__: correct "
        "it, or pass other data"
    )


def stored_form(function: Callable[..., Any], reduce: Reducer) -> StoredFunction | None:
    """Return the stored form of a step's function; see `stored_function.store`."""
    return store(
        function,
        lambda what: whole(dumps(what, reduce, Form.REFERENCE)),
        lambda what, module: whole(dumps(what, reduce, Form.COPY, module)),
    )


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
