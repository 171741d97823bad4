"""Publishes and fetches ephemeral values: values that are not stored, but passed from one worker to others.

A small pickle passes through the manager. A large pickle stays in Ray's object store, and only its reference passes
through the manager, so the manager's memory stays small. Such an object lives as long as the worker process that
created it and its node. If a worker finds it lost, the step that returned it runs again. `run_values` calls this
module.
"""

from __future__ import annotations

from collections.abc import Mapping

import ray
from ray.exceptions import ObjectLostError

from workflow.engine.messages import EphemeralValue
from workflow.log.blobs import INLINE_LIMIT
from workflow.log.pickled import Pickled
from workflow.model.graph import Value


class EphemeralValuesLostError(Exception):
    """Ephemeral values that a step takes are lost.

    Attributes:
        step_ids: the steps that returned them.
    """

    def __init__(self, step_ids: tuple[str, ...]) -> None:
        super().__init__(f"the ephemeral values of {', '.join(step_ids)} are lost")
        self.step_ids = step_ids


def fits_into_a_message(data: bytes | Pickled) -> bool:
    """Return whether a pickle is small enough to pass through the manager."""
    return len(data) <= INLINE_LIMIT


def publish(data: bytes | Pickled) -> EphemeralValue:
    """Make a pickle available to other workers."""
    whole = data if isinstance(data, bytes) else b"".join(data)
    if fits_into_a_message(whole):
        return EphemeralValue(value=Value(inline=whole, size=len(whole)))
    return EphemeralValue(ref=ray.put(whole))


def fetch(ephemeral_values: Mapping[str, EphemeralValue]) -> dict[str, bytes | Pickled]:
    """Return the pickles of ephemeral values, by the id of the step that returned each.

    Raises:
        EphemeralValuesLostError: some are lost. It names all of them.
    """
    pickles: dict[str, bytes | Pickled] = {}
    for step_id, ephemeral in ephemeral_values.items():
        if ephemeral.value is not None:
            pickles[step_id] = ephemeral.value.inline or b""
        else:
            try:
                data = ray.get(ephemeral.ref)
            except ObjectLostError:
                continue
            pickles[step_id] = Pickled([data])
    lost = tuple(step_id for step_id in ephemeral_values if step_id not in pickles)
    if lost:
        raise EphemeralValuesLostError(lost)
    return pickles
