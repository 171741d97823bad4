"""The registry: which run a workflow id has now. The entry `registry/<n>` with the highest n counts.

Creating an entry creates a run or, as a tombstone, forbids it. The index and the `owned/` entries are written before
the registry entry. They therefore list every run that exists.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow.errors import CorruptLogError, SupersededError
from workflow.log import keys, segments
from workflow.log.failpoints import AFTER_REGISTER, BEFORE_REGISTER, NO_FAILPOINTS, Failpoints
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


def latest_run_number(store: Store, workflow_id: str) -> int:
    """Return the highest run number of a workflow id; 0 if the id was never used."""
    last = 0
    for info in store.list(keys.registry(workflow_id)):
        last = int(keys.last_part(info.key))
    return last


def read_entry(store: Store, workflow_id: str, run_number: int) -> RegistryEntry | None:
    """Return a registry entry, or None if there is none.

    Raises:
        CorruptLogError: the entry is damaged, or belongs to another workflow id whose shortened form is the same.
        NewerFormatError: a newer version of the library wrote it.
    """
    key = keys.registry_entry(workflow_id, run_number)
    data = store.get(key)
    if data is None:
        return None
    records = segments.decode(key, data)
    if len(records) != 1 or not isinstance(records[0], (Created, Tombstone)):
        raise CorruptLogError(f"{key} is damaged: it holds neither a run nor a tombstone", key=key)
    if records[0].workflow_id != workflow_id:
        raise CorruptLogError(
            f"{key} is damaged: it belongs to workflow id {records[0].workflow_id!r}, not to {workflow_id!r}", key=key
        )
    return records[0]


def current_entry(store: Store, workflow_id: str) -> RegistryEntry | None:
    """Return the entry that counts for a workflow id now; None if the id was never used."""
    run_number = latest_run_number(store, workflow_id)
    return read_entry(store, workflow_id, run_number) if run_number else None


def register(store: Store, record: RegistryEntry, failpoints: Failpoints = NO_FAILPOINTS) -> Registration:
    """Create a registry entry: a run, or a tombstone that forbids it. An existing entry stays."""
    key = keys.registry_entry(record.workflow_id, record.run_number)
    put_id = uuid.uuid4().hex
    run_uuid = record.run_uuid if isinstance(record, Created) else ""
    failpoints.reach(BEFORE_REGISTER)
    written = store.create(key, segments.encode(run_uuid, 0, put_id, [record]), put_id)
    failpoints.reach(AFTER_REGISTER)
    if written:
        return Registration(record, created=True)
    existing = read_entry(store, record.workflow_id, record.run_number)
    if existing is None:
        raise CorruptLogError(f"{key} exists, but cannot be read; restore it from a copy", key=key)
    return Registration(existing, created=False)


def check_current(store: Store, created: Created) -> None:
    """Check that a run is still the one that counts for its workflow id.

    Raises:
        SupersededError: the run was deleted, or a newer run replaced it.
    """
    run_number = latest_run_number(store, created.workflow_id)
    if run_number != created.run_number:
        entry = keys.registry_entry(created.workflow_id, created.run_number)
        # A deletion leaves a tombstone with a higher number.
        lost = "" if run_number > created.run_number else f"; the store lost {entry}: restore it from a copy"
        raise SupersededError(
            f"run {created.run_number} of workflow {created.workflow_id!r} was deleted or replaced: the registry entry "
            f"that counts now is {run_number}{lost}",
            workflow_id=created.workflow_id,
        )


def deletion_of(store: Store, created: Created) -> Tombstone | None:
    """Return the tombstone of a run that was deleted, or None.

    For a run that was replaced by a newer one, and whose objects were collected, a tombstone `Abandoned` is returned.
    """
    following = read_entry(store, created.workflow_id, created.run_number + 1)
    if not isinstance(following, Created):
        return following
    log = keys.RunPaths(created.workflow_id, created.run_number, created.run_uuid).segments
    if next(store.list(log), None) is not None:
        return None
    return Tombstone(
        created.workflow_id, created.run_number, WorkflowStatus.CANCELED, "Abandoned", following.at, created.owner.uid
    )
