"""Takes arguments when `.step()` is called, so that a step gets them as they were at that moment.

Immutable arguments are kept as they are. All others are pickled at once: containers, objects of the user, functions.
A run stores these bytes. Objects that steps are methods of, closures and partials are taken in the same way.

Buffers of at least `OUT_OF_BAND_LIMIT` bytes, for example the memory of large arrays, are not copied. Their SHA-256 is
taken, and a buffer that changes before it is stored is refused. Equal bytes of several steps share memory.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import operator
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import ray

from workflow.engine.worker.refs import StepReducer, ValuePickler, paths_to
from workflow.engine.worker.taken import Taken, shared_parts
from workflow.errors import InternalError
from workflow.log import values
from workflow.log.pickled import OUT_OF_BAND_LIMIT, PickleWriter
from workflow.model.graph import StepNode

_MAX_DEPTH: Final = 20
_MAX_SEARCHED: Final = 1_000
"""Objects of one argument that are searched for the place of a buffer."""

_MAX_CANDIDATES: Final = 16
"""Objects that were pickled last, one of which offers a buffer."""

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, type(...)})

_placeholders: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""Dataset -> its placeholder."""


def is_immutable(value: Any, depth: int = 0) -> bool:
    """Return whether a value cannot change: it is of an immutable built-in type, as are its items."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is bytes:
        return len(value) < OUT_OF_BAND_LIMIT  # a larger one is hashed once, if it is taken
    if kind in (tuple, frozenset):
        return depth < _MAX_DEPTH and all(is_immutable(item, depth + 1) for item in value)
    return isinstance(value, (StepNode, ray.ObjectRef))


def are_immutable(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether the arguments of a step cannot change, so that they need not be taken."""
    return is_immutable(args) and all(map(is_immutable, kwargs.values()))


def take_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], title: str, signature: inspect.Signature | None
) -> Taken:
    """Take the arguments of a step as they are now.

    Args:
        args, kwargs: the arguments.
        title: the name of the step, for error messages.
        signature: of the function, from which arguments in error messages get their names.

    Raises:
        InvalidInputError: an argument cannot be stored.
    """
    taker = Taker(f"arguments of step {title!r}")
    return taker.take((args, dict(kwargs)), _named(args, kwargs, signature))


@dataclasses.dataclass(frozen=True, eq=False)
class AsReference:
    """A composed step within a container. The step that consumes it gets an ObjectRef of its outcome."""

    step: StepNode

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray pickles the arguments of a task in a DAG to search them, and drops the pickle.
        return _refuse_to_load, ()


def _refuse_to_load() -> None:
    raise InternalError("cannot load a composed step: it was pickled without its run; please report this error")


class ParentMarks:
    """Replaces the composed steps in a value by marks; a `StepReducer`.

    Attributes:
        parents: these steps, each once, in the order of their marks.
    """

    def __init__(self) -> None:
        self.parents: list[StepNode] = []
        self._index_of: dict[int, int] = {}

    def __call__(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, AsReference):
            return values.mark("parent_reference", self._index(obj.step))
        return values.mark("parent", self._index(obj)) if isinstance(obj, StepNode) else None

    def _index(self, step: StepNode) -> str:
        if id(step) not in self._index_of:
            self._index_of[id(step)] = len(self.parents)
            self.parents.append(step)
        return str(self._index_of[id(step)])


class Taker(ValuePickler):
    """Pickles a value without a run: keeps Ray objects, and takes nothing from the memory of buffers but a SHA-256."""

    def __init__(self, what: str, reduce_step: StepReducer | None = None, *, keeps_actors: bool = False) -> None:
        self._what = what
        self._keeps_actors = keeps_actors
        self.actors = set()
        self._marks = ParentMarks()
        self._reduce_step = reduce_step or self._marks
        self._kept: dict[str, Any] = {}
        self._last: deque[Any] = deque(maxlen=_MAX_CANDIDATES)
        self._named: Sequence[tuple[str, Any]] = ()

    def take(self, value: Any, named: Sequence[tuple[str, Any]]) -> Taken:
        """Take a value.

        Args:
            value: what is pickled now.
            named: returns its parts with their names, for error messages.
        """
        self._named = named
        out = _TakingWriter(self._last)
        self.dump(value, out)
        parts = tuple(shared_parts(out.pieces(), may_split=not self._kept))
        places = {}
        if out.candidates:
            buffers = [part for part in parts if not part.is_immutable]
            places = {
                part.sha256: _place(named, candidates)
                for part, candidates in zip(reversed(buffers), reversed(out.candidates), strict=True)
            }
        return Taken(tuple(self._marks.parents), parts, self._kept, places, actors=tuple(sorted(self.actors)))

    def _named_parts(self, value: Any) -> Sequence[tuple[str, Any]]:
        return [(f"argument {name}", part) for name, part in self._named] or super()._named_parts(value)

    def _reduce(self, obj: Any) -> tuple[Any, ...] | None:
        self._last.append(obj)
        return super()._reduce(obj)

    def _reduce_reference(self, ref: Any) -> tuple[Any, ...]:
        return self._keep("object", ref, hashlib.sha256(f"reference {ref.hex()}".encode()).hexdigest())

    def _reduce_dataset(self, dataset: Any) -> tuple[Any, ...]:
        placeholder = hashlib.sha256(f"dataset {id(dataset)}".encode()).hexdigest()
        return self._keep("value", dataset, _placeholders.setdefault(dataset, placeholder))

    def _keep(self, kind: str, obj: Any, placeholder: str) -> tuple[Any, ...]:
        self._kept[placeholder] = obj
        return values.mark(kind, placeholder)


class _TakingWriter(PickleWriter):
    """Copies everything that may change, except for large buffers.

    Args:
        last: the objects that were pickled last.

    Attributes:
        candidates: for each buffer, the objects that may offer it, the most probable one first.
    """

    def __init__(self, last: deque[Any]) -> None:
        super().__init__()
        self._last = last
        self.candidates: list[list[Any]] = []

    def write(self, data: Any) -> int:
        return super().write(data if type(data) is bytes else bytes(data))

    def take_buffer(self, buffer: Any) -> bool:
        in_band = super().take_buffer(buffer)
        if not in_band:
            self.candidates.append(list(reversed(self._last)))
        return in_band


def _named(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], signature: inspect.Signature | None
) -> list[tuple[str, Any]]:
    """Return the arguments with the names of their parameters."""
    parameters = list(signature.parameters.values()) if signature is not None else []
    named = []
    for index, value in enumerate(args):
        name = f"args[{index}]"
        if index < len(parameters) and parameters[index].kind is not inspect.Parameter.VAR_POSITIONAL:
            name = parameters[index].name
        named.append((name, value))
    return [*named, *kwargs.items()]


def _place(named: Sequence[tuple[str, Any]], candidates: Sequence[Any]) -> str:
    """Return where an object with a buffer is: a Python expression, if it is found in the named values."""
    for candidate in candidates:
        wanted = functools.partial(operator.is_, candidate)
        for name, value in named:
            path = next(paths_to(value, wanted, name, _MAX_SEARCHED), None)
            if path is not None:
                return f"argument {path}"
    return "a large buffer in it"
