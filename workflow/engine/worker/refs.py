"""Ray objects inside values: the content of references and datasets is stored as blobs.

Actor handles are refused, except in functions; see `actor_handles`.
A blob that is loaded becomes a Ray object again. The process remembers the blob of each reference. So the content of a
reference that many steps take is pickled and stored once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import ray

from workflow.engine.worker import actor_handles
from workflow.engine.worker.caches import SharedCache
from workflow.errors import InvalidInputError, NewerFormatError
from workflow.log import stored_names, values
from workflow.log.blobs import Blobs
from workflow.log.code_digest import cell_content
from workflow.log.definitions import MAIN_MODULES
from workflow.log.pickled import Pickled, PickleWriter
from workflow.log.pickler import is_too_deep, stored_form
from workflow.log.stored_function import StoredFunction
from workflow.model.calls import kind_of
from workflow.model.graph import StepNode

MAX_REMEMBERED_BLOBS: Final = 10_000
MAX_SEARCH_DEPTH: Final = 20
MAX_SEARCHED: Final = 1_000
"""Parts of one object that are pickled to find the one that cannot be."""

_blob_of: SharedCache[tuple[str, str], str] = SharedCache(MAX_REMEMBERED_BLOBS)
"""(run folder, ObjectID) -> name of the blob that contains the content of the reference."""

_blocks: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
"""Dataset -> references to its materialized blocks, so that each Dataset is materialized once."""


StepReducer = Callable[[Any], "tuple[Any, ...] | None"]
"""Returns what pickle writes for a composed step, for example a mark; None for any other object."""


class ValuePickler:
    """Pickles values of one run, and stores the content of the Ray references in them.

    Args:
        blobs: the run's blobs.
        folder: the run's folder in the store.
        what: what is pickled, for error messages, for example `arguments of step 'x'`.
        reduce_step: replaces composed steps; None if the value cannot contain any.
        keeps_actors: whether actor handles are stored, as in functions, and not refused.

    Attributes:
        actors: the names of the classes of the actors whose handles were stored.
    """

    def __init__(
        self,
        blobs: Blobs,
        folder: str,
        what: str,
        reduce_step: StepReducer | None = None,
        *,
        keeps_actors: bool = False,
    ) -> None:
        self._blobs = blobs
        self._folder = folder
        self._what = what
        self._reduce_step = reduce_step
        self._keeps_actors = keeps_actors
        self.actors: set[str] = set()

    def dumps(self, value: Any) -> bytes | Pickled:
        """Pickle a value. The content of every reference in it is stored first.

        Raises:
            InvalidInputError: the value contains an actor handle or something that cannot be pickled. The message
                contains the place in the value.
        """
        with self._explaining(value):
            return values.dumps(value, self._reduce)

    def dump(self, value: Any, out: PickleWriter) -> None:
        """Pickle a value into a writer; raises as `dumps` does."""
        with self._explaining(value):
            values.dump(value, self._reduce, out)

    def stored_function(self, function: Callable[..., Any]) -> StoredFunction | None:
        """Return the stored form of a step's function, or None if it is pickled like a value; raises as `dumps`."""
        with self._explaining(function):
            return stored_form(function, self._reduce)

    @contextlib.contextmanager
    def _explaining(self, value: Any) -> Iterator[None]:
        try:
            yield
        except _ActorHandleError:
            named = self._named_parts(value)
            path = next(
                (path for name, part in named for path in paths_to(part, actor_handles.is_actor, name or "value")), None
            )
            raise InvalidInputError(
                f"{self._what}: cannot store a Ray actor handle{f' at {path}' if path else ''}: an actor does not "
                "survive its cluster; pass what is needed to create or find the actor instead, for example its name"
            ) from None
        except InvalidInputError as error:
            reason = error.fields.get("reason")
            if reason is None:
                raise InvalidInputError(f"{self._what}: {error}") from error
            deepest = 0 if is_too_deep(error.__cause__) else MAX_SEARCH_DEPTH
            what = _unpicklable(self._named_parts(value), deepest) or kind_of(value)
            raise InvalidInputError(f"{self._what}: {what} cannot be pickled: {reason}") from error

    def _named_parts(self, value: Any) -> Sequence[tuple[str, Any]]:
        """Return the parts of a value with their names, for error messages; an empty name for the whole value."""
        return _variables(value) if isinstance(value, types.FunctionType) else [("", value)]

    def _reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, ray.ObjectRef):
            return self._reduce_reference(obj)
        if self._reduce_step is not None:
            reduced = self._reduce_step(obj)
            if reduced is not None:
                return reduced
        if actor_handles.is_actor(obj):
            if not self._keeps_actors:
                raise _ActorHandleError(self._what)
            self.actors.add(actor_handles.class_name_of(obj))
            return actor_handles.reduced(obj)
        return self._reduce_dataset(obj) if is_dataset(obj) else None

    def _reduce_reference(self, ref: Any) -> tuple[Any, ...]:
        return values.mark("object", self.store_reference(ref))

    def _reduce_dataset(self, dataset: Any) -> tuple[Any, ...]:
        if dataset not in _blocks:
            _blocks[dataset] = dataset.materialize().to_arrow_refs()
        return stored_names.dataset, (_blocks[dataset],)

    def store_kept(self, obj: Any) -> str:
        """Store a Ray object that a pickle has a mark for, and return the name of its blob.

        Args:
            obj: a reference, whose content is stored, or a Dataset, which is stored as a value.
        """
        return self.store_reference(obj) if isinstance(obj, ray.ObjectRef) else self._blobs.put(self.dumps(obj))

    def store_reference(self, ref: Any) -> str:
        """Store the content of a reference, and return the name of its blob."""
        key = (self._folder, ref.hex())
        blob = _blob_of.get(key)
        if blob is None:
            # No reducer: every step that takes the reference gets the same content, so it may not contain a step.
            content = ValuePickler(self._blobs, self._folder, f"{self._what}: the content of {ref}")
            blob = self._blobs.put(content.dumps(ray.get(ref)))
            _blob_of.put(key, blob)
        return blob


class StepFinder(ValuePickler):
    """Pickles values only to find the composed steps in them. Stores nothing, and fetches no content of references.

    Args:
        what: what is pickled, for error messages.
        reduce_step: called with every object; it records the steps.
    """

    def __init__(self, what: str, reduce_step: StepReducer) -> None:
        self._what = what
        self._reduce_step = reduce_step
        self._keeps_actors = False

    def _reduce_reference(self, ref: Any) -> tuple[Any, ...]:
        return values.mark("object", "")  # its content cannot contain a step

    def _reduce_dataset(self, dataset: Any) -> tuple[Any, ...]:
        return values.mark("object", "")


class _ActorHandleError(InvalidInputError):
    """The value contains an actor handle; `ValuePickler.dumps` finds the place."""


def dereference_argument(value: Any) -> Any:
    """Return what a Ray task would receive for an argument: the content of a reference, or any other value unchanged.

    References inside other values stay references.
    """
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def dereference_result(value: Any) -> Any:
    """Return the value at the end of a chain of references, or any other value unchanged."""
    while isinstance(value, ray.ObjectRef):
        value = ray.get(value)
    return value


def mark_resolver(blobs: Blobs, folder: str, written_by: str, parent: Callable[[int], Any]) -> values.Resolve:
    """Return the function that replaces the marks in a stored value.

    Args:
        blobs: the run's blobs.
        folder: the run's folder in the store.
        written_by: versions that pickled the value, for error messages.
        parent: returns the outcome of a step's parent with this index.
    """

    def resolve(kind: str, name: str) -> Any:
        if kind == "parent":
            return parent(int(name))
        if kind == "parent_reference":
            return _put(parent(int(name)))
        if kind not in ("object", "value"):
            raise NewerFormatError(
                f"cannot load a stored value: a newer version ({written_by or 'not recorded'}) wrote it, and its mark "
                f"{kind!r} is unknown to this version; upgrade rayworkflow",
                unknown=f"mark {kind!r}",
                written_by=written_by,
            )
        value = values.loads(blobs.fetch(name), resolve, written_by)
        if kind == "value":
            return value
        ref = _put(value)
        _blob_of.put((folder, ref.hex()), name)
        return ref

    return resolve


def _put(value: Any) -> Any:
    if isinstance(value, ray.ObjectRef):  # `ray.put` refuses to store a reference
        return _first_of.remote([value])
    return ray.put(value)


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # ray ships no types for it
def _first_of(wrapped: list[Any]) -> Any:
    return wrapped[0]


def is_dataset(obj: Any) -> bool:
    """Return whether an object is a Dataset, without importing ray.data, which is slow."""
    return any(base.__name__ == "Dataset" and str(base.__module__).startswith("ray.data") for base in type(obj).__mro__)


def paths_to(value: Any, wanted: Callable[[Any], bool], path: str = "value", limit: int | None = None) -> Iterator[str]:
    """Yield the places of wanted objects in nested containers, as Python expressions.

    Args:
        value: the outermost value.
        wanted: returns whether an object is wanted.
        path: the expression for the value.
        limit: the largest number of objects that are looked at; None for all.
    """
    for place, obj in itertools.islice(_nested(value, path, wanted, 0), limit):
        if wanted(obj):
            yield place


def _nested(value: Any, path: str, wanted: Callable[[Any], bool], depth: int) -> Iterator[tuple[str, Any]]:
    """Yield a value and what it contains. What a wanted object contains is left out."""
    yield path, value
    if depth < MAX_SEARCH_DEPTH and not wanted(value):
        for suffix, item in _items(value):
            yield from _nested(item, path + suffix, wanted, depth + 1)


def _variables(function: types.FunctionType) -> list[tuple[str, Any]]:
    """Return what is pickled with the code of a function: variables around it, and the globals of a script."""
    names = function.__code__.co_freevars
    found = dict(zip(names, map(cell_content, function.__closure__ or ()), strict=True))
    if function.__module__ in MAIN_MODULES:
        used = function.__code__.co_names
        found |= {name: function.__globals__[name] for name in used if name in function.__globals__}
    return [(f"variable {name}", value) for name, value in found.items()]


def _unpicklable(named: Iterable[tuple[str, Any]], levels: int) -> str:
    """Return the kind and the place of the innermost object that cannot be pickled; empty if none is found.

    Args:
        named: objects with their places. The first that cannot be pickled is searched.
        levels: how many levels of containers are searched.
    """
    for path, value in itertools.islice(named, MAX_SEARCHED):
        if not _can_be_pickled(value):
            inside = ((path + suffix if path else f"value{suffix}", item) for suffix, item in _items(value))
            found = _unpicklable(inside, levels - 1) if levels else ""
            return found or (f"{kind_of(value)} at {path}" if path else kind_of(value))
    return ""


def _can_be_pickled(value: Any) -> bool:
    finder = StepFinder("", lambda obj: values.mark("parent", "0") if isinstance(obj, StepNode) else None)
    try:
        values.dumps(value, finder._reduce)
    except InvalidInputError as error:
        return "reason" not in error.fields
    return True


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{{{item!r}}}", item) for item in value)
    elif dataclasses.is_dataclass(value):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
    elif hasattr(value, "__dict__"):
        yield from ((f".{name}", item) for name, item in vars(value).items())
