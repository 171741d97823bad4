"""Functions that depend on values: closures, partials, methods of objects and callable objects.

Such a function is taken when `.step()` is called, as arguments are. A function at the top of a module is code: a run
stores it, and a resumed run may use its corrected version.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import weakref
from collections.abc import Callable
from typing import Any, Final

from workflow.engine.worker.arguments import Taker, is_immutable
from workflow.engine.worker.taken import Taken, changed
from workflow.errors import InvalidInputError
from workflow.event_listener import Checkpointed, Poll
from workflow.log.code_digest import cell_content, is_step
from workflow.log.pickled import OUT_OF_BAND_LIMIT
from workflow.model.graph import StepNode

_IMMUTABLE: Final = (bytes, type, types.BuiltinFunctionType, types.ModuleType)


@dataclasses.dataclass(frozen=True, slots=True)
class LastTaken:
    """The last time that a function was taken.

    Attributes:
        taken: the function as it was, as long as a composed step has it.
        found: the values on which it depends. If these are the same objects, none of its variables was replaced.
        may_change: whether one of these values may change.
    """

    taken: weakref.ref[Taken]
    found: tuple[Any, ...]
    may_change: bool


def take_function(function: Callable[..., Any], qualname: str, last: LastTaken | None) -> tuple[Taken, LastTaken]:
    """Take a function that depends on values.

    A function that depends on large values is taken once as long as these are the same objects. `check_unchanged` then
    refuses changes.

    Args:
        function: what the step calls.
        qualname: its name, for error messages.
        last: what the last call for this function returned, or None.

    Returns:
        The function as it is now, and what the next call needs.

    Raises:
        InvalidInputError: it cannot be stored.
    """
    dependencies = _Dependencies(function)
    known = last.taken() if last is not None and dependencies.are_same(last.found) else None
    if known is not None and last is not None and (known.captured or not last.may_change):
        return known, last
    what = f"function of step {qualname!r}"
    taker = Taker(what, refuse_captured_step, keeps_actors=True)
    taken = taker.take(taker.stored_function(function) or function, [])
    mutable = tuple(dependencies.mutable)
    # An object whose method is a step is pickled for each call, as an argument is.
    if mutable and not isinstance(function, types.MethodType) and taken.size >= OUT_OF_BAND_LIMIT:
        taken = dataclasses.replace(taken, captured=mutable, captured_sha256=_digest(what, mutable))
    return taken, LastTaken(weakref.ref(taken), tuple(dependencies.found.values()), bool(mutable))


def check_unchanged(taken: Taken, what: str) -> None:
    """Check that large values in a function are as they were when it was taken.

    Args:
        taken: the function.
        what: what was taken, for example `function of step 'x'`.

    Raises:
        InvalidInputError: a value changed.
    """
    if taken.captured and _digest(what, taken.captured) != taken.captured_sha256:
        raise changed(what, "a value that it refers to")


def depends_on_values(function: Callable[..., Any]) -> bool:
    """Return whether a function is more than code that a later process can find by module and name."""
    if isinstance(function, types.FunctionType):
        return bool(function.__closure__) and "<" in function.__qualname__
    if isinstance(function, types.MethodType):
        return not isinstance(function.__self__, (type, types.ModuleType))
    return not isinstance(function, (type, types.BuiltinFunctionType, Poll, Checkpointed))


def values_of(function: Callable[..., Any]) -> list[Any]:
    """Return the values on which a function depends, without the functions between them."""
    if isinstance(function, types.MethodType):
        return [function.__self__]
    found = _Dependencies(function).found.values()
    functions = (types.FunctionType, types.MethodType, functools.partial)
    return [value for value in found if not (isinstance(value, functions) or is_step(value))]


def refuse_captured_step(obj: Any) -> None:
    """Refuse a composed step in a function; a `StepReducer`."""
    if isinstance(obj, StepNode):
        raise InvalidInputError(
            f"it refers to the composed workflow of step {obj.qualname!r}, which has no value yet; pass that as an "
            "argument to .step(...), so that this step gets its value"
        )


def _digest(what: str, captured: tuple[Any, ...]) -> str:
    return Taker(what, refuse_captured_step, keeps_actors=True).take(captured, []).sha256


class _Dependencies:
    """The values on which a function depends.

    Attributes:
        found: id -> value.
        mutable: those that may change.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.found: dict[int, Any] = {}
        self.mutable: list[Any] = []
        self._collect(function)

    def are_same(self, others: tuple[Any, ...]) -> bool:
        """Return whether these are the same objects."""
        return len(others) == len(self.found) and all(id(other) in self.found for other in others)

    def _collect(self, value: Any) -> None:
        if id(value) in self.found:
            return
        self.found[id(value)] = value
        if is_step(value):
            self._collect(value.function)
        elif isinstance(value, functools.partial):
            self._collect_all(value.func, *value.args, *value.keywords.values())
        elif isinstance(value, types.FunctionType):
            defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
            self._collect_all(*defaults, *map(cell_content, value.__closure__ or ()))
        elif not (isinstance(value, _IMMUTABLE) or is_immutable(value)):
            self.mutable.append(value)

    def _collect_all(self, *given: Any) -> None:
        for value in given:
            self._collect(value)
