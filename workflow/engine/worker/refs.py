"""Ray objects inside values: references and datasets become blobs and come back as references; actors are refused.

A reference is known by its ObjectID, and one loaded from a blob by that blob, before anything is hashed: an object that
goes to many steps is stored once.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import ray

from workflow.errors import InvalidInputError, NewerFormatError
from workflow.log import stored_names, values
from workflow.log.blobs import Blobs
from workflow.log.pickled import Pickled

REMEMBERED = 10_000

_blob_of: OrderedDict[tuple[str, str], str] = OrderedDict()
"""(run folder, ObjectID) -> blob, for the references this process stored or loaded last."""

_blocks: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
"""Dataset -> references of its materialized blocks, so that one object is materialized once."""


OnNode = Callable[[Any], "tuple[Any, ...] | None"]
"""Replaces a step that is not executed yet by a mark; None for anything else."""


class Packer:
    """Pickles values of one run: the reducer behind `values.dumps`.

    Args:
        blobs: of the run.
        folder: of the run; tells whose blobs are remembered.
        what: names the step and the place (`arguments of step 'x'`), for the text of an error.
        on_node: see there; None where no step may occur.
    """

    def __init__(self, blobs: Blobs, folder: str, what: str, on_node: OnNode | None = None) -> None:
        self._blobs = blobs
        self._folder = folder
        self._what = what
        self._on_node = on_node

    def dumps(self, value: Any) -> bytes | Pickled:
        """Pickle a value; stores the content of every reference in it first.

        Raises:
            Invalid: it holds an actor handle or something that cannot be pickled; the text says where.
        """
        try:
            return values.dumps(value, self._reduce)
        except _ActorHandleError:
            path = next(_paths_to(value, _is_actor), None)
            raise InvalidInputError(
                f"{self._what}: a Ray actor handle{f' at {path}' if path else ''}. An actor does not survive its "
                "cluster, so it cannot be passed between steps; pass what is needed to make or find the actor "
                "(its name, say) instead"
            ) from None
        except InvalidInputError as error:
            raise InvalidInputError(f"{self._what}: {error}") from error

    def _reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, ray.ObjectRef):
            return values.mark("object", self._store(obj))
        if self._on_node is not None:
            reduced = self._on_node(obj)
            if reduced is not None:
                return reduced
        if _is_actor(obj):
            raise _ActorHandleError(self._what)
        if _is_dataset(obj):
            if obj not in _blocks:
                _blocks[obj] = obj.materialize().to_arrow_refs()
            return stored_names.dataset, (_blocks[obj],)
        return None

    def _store(self, ref: Any) -> str:
        key = (self._folder, ref.hex())
        if key not in _blob_of:
            # What lies behind a reference is the same for whoever takes it: no step can stand in it.
            content = Packer(self._blobs, self._folder, f"{self._what}: the content of {ref}")
            _remember(key, self._blobs.put(content.dumps(ray.get(ref))))
        return _blob_of[key]


class Skimmer(Packer):
    """Pickles values only to meet the steps in them: stores nothing, and fetches nothing of what lies outside.

    Args:
        what, on_node: see Packer.
    """

    def __init__(self, what: str, on_node: OnNode) -> None:
        self._what = what
        self._on_node = on_node

    def _reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, ray.ObjectRef) or _is_dataset(obj):
            return values.mark("object", "")  # no step can stand in it
        return super()._reduce(obj)


class _ActorHandleError(InvalidInputError):
    """Carries nothing: the packer looks for the place itself."""


def as_argument(value: Any) -> Any:
    """What a Ray task would get: the value behind a reference; anything else, with the references in it, as it is."""
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def as_result(value: Any) -> Any:
    """What a step's consumers get: the value at the end of a chain of references; anything else as it is."""
    while isinstance(value, ray.ObjectRef):
        value = ray.get(value)
    return value


def resolver(blobs: Blobs, folder: str, written_by: str, parents: Callable[[int], Any]) -> values.Resolve:
    """What marks stand for in a worker or a driver.

    Args:
        blobs, folder: of the run.
        written_by: versions that pickled.
        parents: the outcome of a step's i-th parent.
    """

    def resolve(kind: str, name: str) -> Any:
        if kind == "parent":
            return parents(int(name))
        if kind != "object":
            raise NewerFormatError(
                f"cannot read a stored value: it was written by a newer version ({written_by or 'not recorded'}), and "
                f"its mark {kind!r} is unknown to this version; upgrade rayworkflow here",
                unknown=f"mark {kind!r}",
                written_by=written_by,
            )
        ref = _put(values.loads(blobs.fetch(name), resolve, written_by))
        _remember((folder, ref.hex()), name)
        return ref

    return resolve


def _put(value: Any) -> Any:
    if isinstance(value, ray.ObjectRef):  # a reference to a reference, which `ray.put` refuses to make
        return _hand_on.remote([value])
    return ray.put(value)


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # ray ships no types for it
def _hand_on(wrapped: list[Any]) -> Any:
    return wrapped[0]


def _remember(key: tuple[str, str], blob: str) -> None:
    _blob_of[key] = blob
    while len(_blob_of) > REMEMBERED:
        _blob_of.popitem(last=False)


def _is_dataset(obj: Any) -> bool:
    """Without importing ray.data, which is heavy: who holds a Dataset has imported it."""
    return any(base.__name__ == "Dataset" and base.__module__.startswith("ray.data") for base in type(obj).__mro__)


def _is_actor(obj: Any) -> bool:
    return isinstance(obj, ray.actor.ActorHandle)


def _paths_to(value: Any, wanted: Callable[[Any], bool], path: str = "value", depth: int = 0) -> Iterator[str]:
    """Where in nested containers something stands, as an expression."""
    if wanted(value):
        yield path
    elif depth < 20:
        for step, item in _items(value):
            yield from _paths_to(item, wanted, path + step, depth + 1)


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
