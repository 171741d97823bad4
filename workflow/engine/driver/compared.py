"""Compares a DAG with the stored run that its id refers to, and warns if a stored value answers another question.

A used id is not run again: its stored values are returned. That is wrong without a warning if this time the arguments
or the functions are others. `client` calls this module after it has compared the shapes of the DAGs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from workflow.engine.driver.equality import equal, first_difference
from workflow.engine.worker import closures
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.run_values import RunValues
from workflow.errors import CorruptLogError, InvalidInputError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.pickled import Part
from workflow.log.run_log import RunLog
from workflow.log.stored_function import StoredFunction
from workflow.model.graph import Graph, StepKind, StepNode, StepSpec, Value
from workflow.model.records import Created
from workflow.store.memory import MemoryStore
from workflow.store.port import Store

LARGEST_COMPARED: Final = 1 << 20
"""Size in bytes of a pickle up to which values with other bytes are loaded and compared. Equal values may have other
bytes, for example sets. Larger values are compared by their bytes."""

_STEPS_SHOWN: Final = 3

logger = logging.getLogger(__name__)


def warn_of_other_inputs(root: StepNode, store: Store, created: Created) -> None:
    """Log a warning if a DAG has other arguments or functions than the run that its id refers to.

    Args:
        root: the DAG, of the same shape as that of the run.
        store: the store of the run.
        created: the run.
    """
    log = RunLog(store, created)
    stored = log.blobs.load_graph(created.graph, created.graph_blob)
    scratch = _Scratch()
    paths = RunPaths(created.workflow_id, 0, f"compared-{created.run_uuid}")
    try:
        given = Encoder(RunValues(scratch, paths)).encode(root)
        found = list(_differences(_Side(stored, log.blobs), _Side(given, Blobs(scratch, paths))))
    except (InvalidInputError, CorruptLogError, RecursionError) as error:
        found = [f"they cannot be compared: {error}"]
    if found:
        more = f"; and {len(found) - _STEPS_SHOWN} more" if len(found) > _STEPS_SHOWN else ""
        logger.warning(
            "workflow id %r is used by a run with other inputs, and the values of that run are returned: %s%s. To run "
            "with these inputs, give another workflow_id",
            created.workflow_id,
            "; ".join(found[:_STEPS_SHOWN]),
            more,
        )


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two DAGs, and where its values are."""

    graph: Graph
    blobs: Blobs


@dataclass(frozen=True, slots=True)
class _Marked:
    """What a mark in a pickle represents: the outcome of a parent, or the content of a Ray object."""

    kind: str
    name: str


class _Scratch(MemoryStore):
    """Keeps what is small enough to be compared, and drops everything else."""

    def create(self, key: str, data: Any, put_id: str) -> bool:
        if len(data) > LARGEST_COMPARED:
            return True
        return super().create(key, b"".join(data) if isinstance(data, Part) else data, put_id)


def _differences(stored: _Side, given: _Side) -> Iterator[str]:
    stored_steps = {step.step_id: step for step in stored.graph.steps}
    functions: dict[tuple[str, str], str] = {}
    for new in given.graph.steps:
        old = stored_steps[new.step_id]
        if new.kind is StepKind.SLEEP:
            if new.seconds != old.seconds:
                yield f"step {new.step_id!r} waits {old.seconds} s in the stored run, and {new.seconds} s here"
            continue
        if new.kind is StepKind.WAIT:
            if new.wait != old.wait:
                yield f"step {new.step_id!r} has {old.wait} in the stored run, and {new.wait} here"
            continue
        pair = (old.function, new.function)
        if pair not in functions:
            functions[pair] = _function_difference(old, stored.blobs, new, given.blobs)
        if functions[pair]:
            yield f"step {new.step_id!r} has another function: {functions[pair]}"
        difference = _argument_difference(old.args, stored.blobs, new.args, given.blobs)
        if difference:
            yield f"step {new.step_id!r} has other arguments: {difference}"


def _argument_difference(old: Value, old_blobs: Blobs, new: Value, new_blobs: Blobs) -> str:
    if old == new:
        return ""
    if max(old.size, new.size) > LARGEST_COMPARED:
        return "a large value differs"
    old_args, old_kwargs = values.loads(old_blobs.load_value(old), _Marked)
    new_args, new_kwargs = values.loads(new_blobs.load_value(new), _Marked)
    stored = {**{f"[{index}]": each for index, each in enumerate(old_args)}, **old_kwargs}
    given = {**{f"[{index}]": each for index, each in enumerate(new_args)}, **new_kwargs}
    return first_difference(stored, given)


def _function_difference(old: StepSpec, old_blobs: Blobs, new: StepSpec, new_blobs: Blobs) -> str:
    """Return how two functions differ: in their code, or in the values on which they depend."""
    if old.function == new.function:
        return ""
    stored = values.loads(old_blobs.fetch(old.function), _Marked)
    given = values.loads(new_blobs.fetch(new.function), _Marked)
    if not isinstance(stored, StoredFunction) or not isinstance(given, StoredFunction):
        return "" if equal(stored, given) else f"{new.qualname} differs"
    if stored.digest != given.digest:
        return f"the code of {new.qualname} differs" if stored.python == given.python else ""
    old_values = closures.values_of(values.load_function(stored, _Marked).function)
    new_values = closures.values_of(values.load_function(given, _Marked).function)
    return "" if equal(old_values, new_values) else f"{new.qualname} depends on other values"
