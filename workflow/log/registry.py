"""Which run a workflow id names: `registry/<n>`, the highest n. Creating that key makes the run, or forbids it.

Also the hints around it: the index by status and the runs a manager owns. They are written before the name, so that no
run exists that they do not know.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

from workflow.errors import CorruptLogError, SupersededError
from workflow.log import keys, segments
from workflow.log.failpoints import AFTER_NAME, BEFORE_NAME, NO_FAILPOINTS, Failpoints
from workflow.model.records import Created, Tombstone
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

RegistryEntry = Created | Tombstone


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of `register`.

    Attributes:
        entry: what the registry contains under this run number now.
        created: whether this call created the entry. If not, an earlier call did, and its run may have advanced.
    """

    entry: RegistryEntry
    created: bool


logger = logging.getLogger(__name__)


def latest_run_number(store: Store, workflow_id: str) -> int:
    """The highest n under an id; 0 where the id was never used."""
    last = 0
    for info in store.list(keys.registry(workflow_id)):
        last = int(keys.last_part(info.key))
    return last


def read_entry(store: Store, workflow_id: str, run_number: int) -> RegistryEntry | None:
    """What stands at names/<n>, or None.

    Raises:
        Corrupt: it is damaged, or belongs to another id (two long ids with one shortened form).
    """
    key = keys.registry_entry(workflow_id, run_number)
    data = store.get(key)
    if data is None:
        return None
    records = segments.decode(key, data)
    if len(records) != 1 or not isinstance(records[0], (Created, Tombstone)):
        raise CorruptLogError(f"{key}: holds neither a run nor a tombstone", key=key)
    if records[0].workflow_id != workflow_id:
        raise CorruptLogError(
            f"{key}: belongs to workflow id {records[0].workflow_id!r}, not to {workflow_id!r}", key=key
        )
    return records[0]


def current_entry(store: Store, workflow_id: str) -> RegistryEntry | None:
    """The run or the tombstone that the id names now; None where it was never used."""
    run_number = latest_run_number(store, workflow_id)
    return read_entry(store, workflow_id, run_number) if run_number else None


def register(store: Store, record: RegistryEntry, failpoints: Failpoints = NO_FAILPOINTS) -> Registration:
    """Create a registry entry: a run, or a tombstone. If the entry exists already, return the existing one."""
    put_id = uuid.uuid4().hex
    run_uuid = record.run_uuid if isinstance(record, Created) else ""
    failpoints.reach(BEFORE_NAME)
    data = segments.encode(run_uuid, 0, put_id, [record])
    written = store.create(keys.registry_entry(record.workflow_id, record.run_number), data, put_id)
    failpoints.reach(AFTER_NAME)
    if written:
        return Registration(record, created=True)
    there = read_entry(store, record.workflow_id, record.run_number)
    if there is None:
        raise CorruptLogError(
            f"{keys.registry_entry(record.workflow_id, record.run_number)}: exists and cannot be read"
        )
    return Registration(there, created=False)


def check_current(store: Store, created: Created) -> None:
    """Raises Superseded where the id names another run, or none, by now."""
    run_number = latest_run_number(store, created.workflow_id)
    if run_number != created.run_number:
        raise SupersededError(
            f"workflow {created.workflow_id!r}: run {created.run_number} was deleted or replaced; registry/{run_number} is what counts now",
            workflow_id=created.workflow_id,
        )


def deletion_of(store: Store, created: Created) -> Tombstone | None:
    """What says that a run was deleted, or that another replaced it and its objects were collected; None otherwise."""
    behind = read_entry(store, created.workflow_id, created.run_number + 1)
    if not isinstance(behind, Created):
        return behind
    log = keys.RunPaths(created.workflow_id, created.run_number, created.run_uuid).segments
    if next(store.list(log), None) is not None:
        return None
    return Tombstone(
        created.workflow_id, created.run_number, WorkflowStatus.CANCELED, "Abandoned", behind.at, created.owner.uid
    )
