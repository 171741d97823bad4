"""The index of workflow ids by status. Lists are read from it. An entry can be wrong; the log decides.

An entry is an empty object `index/<status>/<id>`. It is written and removed after the log is written. A delayed call of
a process that died since can therefore leave a wrong entry, or remove a right one. `repair` corrects both;
`workflow.garbage` calls it. All code that reads or writes index entries is in this module.
"""

from __future__ import annotations

import heapq
import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from workflow.errors import CorruptLogError
from workflow.log import keys, registry, segments
from workflow.log.damage import damaged
from workflow.log.run_log import RunLog
from workflow.model.records import FREES_ID, Created, Tombstone
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

LIVE: Final = WorkflowStatus.RUNNING
"""The entry of every run that is not finished. Readers check the log before they trust it."""

CLAIMABLE: Final = (LIVE, WorkflowStatus.FAILED)
"""Entries that a run may have when it is claimed. A claim removes only these: a delayed removal of any other entry
could remove one that is right by then."""

logger = logging.getLogger(__name__)


def set_status(store: Store, workflow_id: str, status: WorkflowStatus, replaces: Iterable[WorkflowStatus]) -> None:
    """Write the entry of a workflow for a status, then remove the entries that it replaces.

    The new entry is written first, so that the workflow appears in at least one list at any moment.
    """
    content = json.dumps(workflow_id).encode() if keys.unescape(keys.escape(workflow_id)) is None else b""
    store.create(keys.index(status, workflow_id), content, uuid.uuid4().hex)
    for other in replaces:
        if other is not status:
            store.delete(keys.index(other, workflow_id))


def remove(store: Store, workflow_id: str) -> None:
    """Remove all entries of a workflow."""
    for status in WorkflowStatus:
        store.delete(keys.index(status, workflow_id))


def restore(store: Store, workflow_id: str) -> None:
    """Write the entry `LIVE` if the id names a run, or if a run is being created under it.

    For a process that called `remove`, and then learned that another process had freed the id before. The removed entry
    may be that of a new run.
    """
    entry = registry.current_entry(store, workflow_id)
    is_free = entry is None or (isinstance(entry, Tombstone) and entry.reason in FREES_ID)
    if not is_free or _is_being_created(store, workflow_id):
        set_status(store, workflow_id, LIVE, replaces=())


def list_ids(store: Store, status: WorkflowStatus) -> Iterator[str]:
    """Yield the workflow ids that have an entry for a status; a damaged entry is skipped and logged."""
    for info in store.list(keys.index(status)):
        found = keys.unescape(keys.last_part(info.key))
        if found is None:
            content = store.get(info.key)
            if content is None:
                continue
            try:
                found = _whole_id(info.key, content)
            except CorruptLogError as error:
                logger.error("the list of workflows leaves out one with the status %s: %s", status, error)
                continue
        yield found


def update(log: RunLog, state: RunState, status: WorkflowStatus, replaces: Iterable[WorkflowStatus]) -> bool:
    """Write the entry of a run, then check whether the run has advanced since `state`.

    Args:
        log: the run's log.
        state: the run's state that `status` was taken from.
        status: the status to write.
        replaces: statuses whose entries are removed.

    Returns:
        True if the run has advanced. Its entry may be wrong then, so it is replaced by `LIVE`, which readers check.
    """
    workflow_id = log.created.workflow_id
    set_status(log.store, workflow_id, status, replaces)
    advanced = log.has_advanced(state)
    if advanced:
        set_status(log.store, workflow_id, LIVE, replaces=(status,))
    return advanced


def workflow_id_of(store: Store, part: str) -> str | None:
    """Return the workflow id whose keys are below `workflows/<part>/`, or None if no object records it.

    Raises:
        CorruptLogError, NewerFormatError: the object that records it is damaged, or a newer version wrote it.
    """
    found = keys.unescape(part)
    if found is None:  # a shortened id: each registry entry holds the whole id, and so does the index entry
        first = next(store.list(f"{keys.WORKFLOWS}{part}/registry/"), None)
        if first is not None:
            record = segments.decode(first.key, store.get(first.key) or b"")[0]
            found = record.workflow_id if isinstance(record, (Created, Tombstone)) else None
        else:
            entries = (f"{keys.index(status)}{part}" for status in WorkflowStatus)
            found = next((_whole_id(key, entry) for key in entries if (entry := store.get(key))), None)
    return found if found is not None and keys.escape(found) == part else None


class IndexedIds:
    """Looks up whether ids have entries. The ids must come in the order in which a store lists their folders.

    One merged pass over the entries of all statuses; only a few entries are in memory at a time. The two orders differ:
    a store lists the object `a` before `a-b`, and the folder `a/` after `a-b/`. An entry that was read already is
    therefore kept as long as the looked up ids begin with it.

    Args:
        entries: for each status, the escaped ids in the order in which the store lists objects.
    """

    def __init__(self, entries: Iterable[Iterator[str]]) -> None:
        self._entries = heapq.merge(*entries)
        self._next = next(self._entries, None)
        self._prefixes: list[str] = []
        self._last = ""

    def contains(self, part: str) -> bool:
        """Return whether an escaped id has an entry.

        Raises:
            ValueError: `part` precedes the part of an earlier call in the order of folders.
        """
        if part + "/" < self._last:
            raise ValueError(f"cannot look up {part!r} after {self._last!r}: follow the order of the store's folders")
        self._last = part + "/"
        self._prefixes = [each for each in self._prefixes if part.startswith(each)]
        while self._next is not None and self._next <= part:
            if part.startswith(self._next):
                self._prefixes.append(self._next)
            self._next = next(self._entries, None)
        return part in self._prefixes


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of `repair`.

    Attributes:
        corrections: how often the entry was corrected; 0 if it was right.
        entry: the status of the entry now; None if there is none.
    """

    corrections: int
    entry: WorkflowStatus | None


def repair(store: Store, workflow_id: str, entry: WorkflowStatus | None) -> Repair:
    """Make the entry of a workflow agree with its log.

    A process that changes a run writes the log before the entry. The log is therefore read again after each correction,
    until both agree.

    Args:
        store: the store of the workflow.
        workflow_id: the workflow.
        entry: the status of the entry that was found; None if it has none.

    Raises:
        CorruptLogError, NewerFormatError: the log is damaged, or a newer version wrote it.
        SupersededError: the workflow was deleted during the call.
    """
    corrections = 0
    while (expected := expected_status(store, workflow_id)) is not entry:
        if expected is not None:  # the new entry first, so that the workflow is in a list at any moment
            set_status(store, workflow_id, expected, replaces=())
        if entry is not None:
            store.delete(keys.index(entry, workflow_id))
        corrections += 1
        entry = expected
    return Repair(corrections, entry)


def expected_status(store: Store, workflow_id: str) -> WorkflowStatus | None:
    """Return the status that the entry of a workflow must have by its log; None if it must have none."""
    entry = registry.current_entry(store, workflow_id)
    if isinstance(entry, Created):
        log = RunLog(store, entry)
        newest = log.newest_totals()
        if newest is not None and newest[1].status.is_terminal:
            return newest[1].status
        log.replay()  # an entry is changed only if the log can be read
        return LIVE
    if entry is not None and entry.reason not in FREES_ID:
        return entry.status
    return LIVE if _is_being_created(store, workflow_id) else None


def _is_being_created(store: Store, workflow_id: str) -> bool:
    """Return whether a free id has a run that is being created.

    Such a run has its functions stored first, then its index entry, then its registry entry.
    """
    return next(store.list(keys.runs(workflow_id)), None) is not None


def _whole_id(key: str, content: bytes) -> str:
    """Return the id that an entry contains because its key has room for a part of the id only."""
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, str):
        raise damaged(key, f"it holds no workflow id: {content[:40]!r}")
    return found
