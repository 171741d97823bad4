"""Values that are not stored, on their way from the worker that made them to those that take them.

A small pickle travels through the manager, a large one lies in Ray's object store and only its reference travels: the
manager never sees what it cannot keep in memory. Such an object lives as long as the worker process that made it and
its node; whoever finds it gone says so, and the step that made it is executed again. Called by `worker`.
"""

from __future__ import annotations

from collections.abc import Mapping

import ray
from ray.exceptions import ObjectLostError

from workflow.engine.messages import EphemeralValue
from workflow.log.blobs import INLINE_LIMIT
from workflow.log.pickled import Pickled
from workflow.model.graph import Value


class EphemeralValuesLost(Exception):
    """Values that a step takes are lost.

    Attributes:
        step_ids: the steps that made them.
    """

    def __init__(self, step_ids: tuple[str, ...]) -> None:
        super().__init__(f"the values of {', '.join(step_ids)} are lost")
        self.step_ids = step_ids


def lend(data: bytes | Pickled) -> EphemeralValue:
    """A pickle, made ready to travel."""
    whole = data if isinstance(data, bytes) else b"".join(data)
    if len(whole) <= INLINE_LIMIT:
        return EphemeralValue(value=Value(inline=whole, size=len(whole)))
    return EphemeralValue(ref=ray.put(whole))


def borrow(held: Mapping[str, EphemeralValue]) -> dict[str, bytes | Pickled]:
    """The pickles that were lent, by the steps that made them.

    Raises:
        Gone: some are lost; it names all of these.
    """
    found: dict[str, bytes | Pickled] = {}
    for step_id, each in held.items():
        if each.value is not None:
            found[step_id] = each.value.inline or b""
        else:
            try:
                data = ray.get(each.ref)
            except ObjectLostError:
                continue
            found[step_id] = Pickled([data])
    gone = tuple(step_id for step_id in held if step_id not in found)
    if gone:
        raise EphemeralValuesLost(gone)
    return found
