"""Publishes and fetches ephemeral values: values that are not stored, but passed from one worker to others.

A small pickle passes through the manager. A large pickle stays in Ray's object store, and only its reference passes
through the manager, so the manager's memory stays small. Such an object lives as long as its owner and its node. The
owner is the worker process, or the manager if that process ends with its lease. If a worker finds it lost, the step
that returned it runs again. `run_values` calls this module.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from workflow.engine.messages import EphemeralValue
from workflow.log.blobs import INLINE_LIMIT
from workflow.log.pickled import Pickled, whole
from workflow.model.graph import Value

logger = logging.getLogger(__name__)


class EphemeralValuesLostError(Exception):
    """Ephemeral values that a step takes are lost.

    Attributes:
        step_ids: the steps that returned them.
    """

    def __init__(self, step_ids: tuple[str, ...]) -> None:
        super().__init__(f"the ephemeral values of {', '.join(step_ids)} are lost")
        self.step_ids = step_ids


def publish(data: bytes | Pickled, owner: Any = None) -> EphemeralValue:
    """Make a pickle available to other workers.

    Args:
        data: the pickle.
        owner: handle of the manager that is to own a large pickle, or None if this process is to own it. A process that
            owns a Ray object does not exit, and keeps the memory of its GPU, until the object is released.
    """
    pickled = whole(data)
    if len(pickled) <= INLINE_LIMIT:
        return EphemeralValue(value=Value(inline=pickled, size=len(pickled)))
    ref = ray.put(pickled)
    if owner is not None:
        try:
            (copy,) = ray.get(owner.own_copy.remote([ref]))
            ray.wait([copy], fetch_local=False)
        except RayError as error:
            logger.warning(
                "this worker keeps its process and the memory of its GPU until a value of a step with checkpoint=False "
                "is not needed any more, because no other process could copy that value: %s",
                error,
            )
        else:
            ref = copy
    return EphemeralValue(ref=ref)


def copied(data: bytes) -> bytes:
    """Return a pickle, so that the process that calls this as a Ray task owns a copy of it."""
    return data


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
            except RayError:  # the object is lost, or could not be copied to its owner
                continue
            pickles[step_id] = Pickled([data])
    lost = tuple(step_id for step_id in ephemeral_values if step_id not in pickles)
    if lost:
        raise EphemeralValuesLostError(lost)
    return pickles
