"""Which run a workflow id names: `names/<n>`, the highest n. Creating that key makes the run, or forbids it.

Also the hints around it: the index by status and the runs a manager owns. They are written before the name, so that no
run exists that they do not know.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from workflow.errors import CorruptLogError, SupersededError
from workflow.log import keys, segments
from workflow.log.failpoints import AFTER_NAME, BEFORE_NAME, NO_FAILPOINTS, Failpoints
from workflow.model.records import Created, Tombstone
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

RegistryEntry = Created | Tombstone

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


def register(store: Store, record: RegistryEntry, failpoints: Failpoints = NO_FAILPOINTS) -> RegistryEntry:
    """Make the run, or forbid it; whoever comes second reads what the first wrote.

    Returns:
        What stands there now: `record` itself exactly where this call wrote it.
    """
    put_id = uuid.uuid4().hex
    run_uuid = record.run_uuid if isinstance(record, Created) else ""
    failpoints.reach(BEFORE_NAME)
    data = segments.encode(run_uuid, 0, put_id, [record])
    written = store.create(keys.registry_entry(record.workflow_id, record.run_number), data, put_id)
    failpoints.reach(AFTER_NAME)
    if written:
        return record
    there = read_entry(store, record.workflow_id, record.run_number)
    if there is None:
        raise CorruptLogError(
            f"{keys.registry_entry(record.workflow_id, record.run_number)}: exists and cannot be read"
        )
    return there


def check_current(store: Store, created: Created) -> None:
    """Raises Superseded where the id names another run, or none, by now."""
    run_number = latest_run_number(store, created.workflow_id)
    if run_number != created.run_number:
        raise SupersededError(
            f"workflow {created.workflow_id!r}: run {created.run_number} was deleted or replaced; names/{run_number} is what counts now",
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


LIVE: Final = WorkflowStatus.RUNNING
BEFORE_A_CLAIM: Final = (LIVE, WorkflowStatus.FAILED)
"""What the index may say of a run that can be claimed. No other entry is removed for a claim: a removal that comes late
could take what is right by then."""


def id_of(store: Store, part: str) -> str | None:
    """The workflow id whose keys lie below `workflows/<part>/`; None where nothing tells it.

    Raises:
        Corrupt: what would tell it is damaged.
    """
    found = keys.unescape(part)
    if found is None:  # shortened: the whole id stands in each of its names; before there is one, in the index
        first = next(store.list(f"{keys.WORKFLOWS}{part}/names/"), None)
        if first is not None:
            record = segments.decode(first.key, store.get(first.key) or b"")[0]
            found = record.workflow_id if isinstance(record, (Created, Tombstone)) else None
        else:
            hints = (f"{keys.index(status)}{part}" for status in WorkflowStatus)
            found = next((_whole_id(key, hint) for key in hints if (hint := store.get(key))), None)
    return found if found is not None and keys.escape(found) == part else None


def _whole_id(key: str, hint: bytes) -> str:
    """The id that a hint holds where its key has room for a part only; raises Corrupt."""
    try:
        found: str = json.loads(hint)
        return found
    except ValueError as error:
        raise CorruptLogError(f"{key}: holds no workflow id: {hint[:40]!r}", key=key) from error


def index(store: Store, workflow_id: str, status: WorkflowStatus, replaces: Iterable[WorkflowStatus]) -> None:
    """Hint that the workflow has this status, and none of those it replaces. The new entry comes first."""
    content = json.dumps(workflow_id).encode() if keys.unescape(keys.escape(workflow_id)) is None else b""
    store.create(keys.index(status, workflow_id), content, uuid.uuid4().hex)
    for other in replaces:
        if other is not status:
            store.delete(keys.index(other, workflow_id))


def unindex(store: Store, workflow_id: str) -> None:
    """Remove all hints for an id."""
    for status in WorkflowStatus:
        store.delete(keys.index(status, workflow_id))


def indexed(store: Store, status: WorkflowStatus) -> Iterator[str]:
    """The ids that the index says have this status; a damaged entry is left out, and logged."""
    for info in store.list(keys.index(status)):
        found = keys.unescape(keys.last_part(info.key))
        if found is None:
            content = store.get(info.key)
            if content is None:
                continue
            try:
                found = _whole_id(info.key, content)
            except CorruptLogError as error:
                logger.error("left out of the list: %s", error)
                continue
        yield found


@dataclass(frozen=True, slots=True)
class OwnedRun:
    """A run that a manager may have claimed."""

    workflow_id: str
    run_number: int
    run_uuid: str


def note_owned(store: Store, manager: str, run: OwnedRun) -> None:
    """Say, before claiming or making a run, that this manager may own it: so that a restart of it finds the run."""
    content = json.dumps({"workflow_id": run.workflow_id, "n": run.run_number}).encode()
    store.create(keys.owned(manager, run.run_uuid), content, uuid.uuid4().hex)


def forget_owned(store: Store, manager: str, run_uuid: str) -> None:
    """The run has ended, or another owns it."""
    store.delete(keys.owned(manager, run_uuid))


def owned_by(store: Store, manager: str) -> Iterator[OwnedRun]:
    """The runs that a manager may own; a damaged key keeps no other from it, and is logged."""
    for info in store.list(keys.owned(manager)):
        try:
            found = read_owned(store, info.key)
        except CorruptLogError as error:
            logger.error("left out of the runs of manager %s: %s", manager, error)
            continue
        if found is not None:
            yield found


def read_owned(store: Store, key: str) -> OwnedRun | None:
    """The run that an `owned/` key speaks of; None where the key is gone.

    Raises:
        Corrupt: it speaks of none.
    """
    content = store.get(key)
    if content is None:
        return None
    try:
        data = json.loads(content)
        return OwnedRun(data["workflow_id"], data["n"], keys.last_part(key))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptLogError(f"{key}: names no run: {content[:40]!r}", key=key) from error
