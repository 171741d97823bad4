"""Collect garbage: remove stored objects that no run needs any more.

It needs no Ray. Nothing in the library calls it: call `collect` from a script of your own, for example in a CronJob.

A collection may run at any time and next to any other process, with any grace time. A run's folder is removed only if
no registry entry can ever make it valid. That is so if a later run number exists, or if another run or a tombstone has
its number. If the number is free, the collection first writes a tombstone under it. A driver that still wants to create
that run finds the tombstone. The index, from which lists are read, is corrected to agree with the logs. Clocks and ages
only decide when a collection looks at an object, never whether removing it is safe.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import groupby
from typing import Final

from workflow.errors import CorruptLogError, InvalidInputError, NewerFormatError, SupersededError
from workflow.log import index, keys, owned, registry
from workflow.log.keys import RunPaths
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.log.owned import OwnedRun
from workflow.log.registry import RegistryEntry
from workflow.log.run_log import RunLog
from workflow.model.calls import is_number
from workflow.model.records import FREES_ID, Created, Tombstone
from workflow.model.status import UNCLAIMABLE, WorkflowStatus
from workflow.requests import remove_below, withdraw_all
from workflow.store.port import ObjectInfo, Store

logger = logging.getLogger(__name__)

DAY: Final = 86_400.0


@dataclass(slots=True)
class Collected:
    """What a collection did. All numbers count objects or runs.

    Attributes:
        runs: removed folders of runs that no registry entry makes valid.
        objects: removed objects in these folders.
        abandoned: runs among them that were begun but never created. Each has a tombstone now.
        requests: removed requests to finished runs.
        notifications: removed notifications whose requests no longer exist.
        owned: removed `owned/` objects of runs that no manager can own any more.
        managers: removed heartbeats of managers that are gone and own no run.
        index_corrected: removed index entries that had no run, or another status than the log.
        index_added: written index entries of runs that had none.
        skipped: objects that look like garbage but could not be judged, with the reason; one text for each.
    """

    runs: int = 0
    objects: int = 0
    abandoned: int = 0
    requests: int = 0
    notifications: int = 0
    owned: int = 0
    managers: int = 0
    index_corrected: int = 0
    index_added: int = 0
    skipped: list[str] = field(default_factory=list)


def collect(store: Store, *, grace: float = DAY) -> Collected:
    """Remove the remains of deleted runs, of drivers that died, and of managers that are gone.

    Args:
        store: the store to collect in.
        grace: an object is looked at only if it did not change for this many seconds, by the clock of the store. If a
            driver needs longer than this from its first stored argument to the creation of its run, it starts again.

    Returns:
        What was removed, and what was skipped because it is damaged.

    Raises:
        InvalidInputError: `grace` is negative.
        StoreUnavailableError, StoreRefusedError: the store failed. The next collection continues.
    """
    if not is_number(grace) or not grace >= 0:
        raise InvalidInputError(f"cannot collect with a grace time of {grace!r} seconds: give a number, 0 or more")
    collection = _Collection(store, grace)
    collection.remove_probes()
    collection.remove_runs_and_requests()
    collection.remove_owned_and_heartbeats()
    collection.correct_index()
    return collection.collected


class FolderDecision(Enum):
    """What happens to the folder of a run."""

    KEEP = auto()
    REMOVE = auto()
    ABANDON = auto()
    """The run was never created: write a tombstone under its number, then remove the folder."""


def decide_folder(run_number: int, run_uuid: str, latest: int, entry: RegistryEntry | None) -> FolderDecision:
    """Decide about the folder of a run. The decision stays right whatever other processes do in the meantime.

    Args:
        run_number: the number of the run.
        run_uuid: the uuid of the run.
        latest: the latest run number under the workflow id; 0 if there is none.
        entry: the registry entry of the latest number.
    """
    if run_number < latest:
        return FolderDecision.REMOVE
    if run_number == latest:
        is_this_run = isinstance(entry, Created) and entry.run_uuid == run_uuid
        return FolderDecision.KEEP if is_this_run else FolderDecision.REMOVE
    # A tombstone hides the entry below it, which users still read: a run, or the reason why there is none. Such a
    # folder is kept until that entry is deleted.
    id_is_free = entry is None or (isinstance(entry, Tombstone) and entry.reason in FREES_ID)
    return FolderDecision.ABANDON if id_is_free and run_number == latest + 1 else FolderDecision.KEEP


@dataclass(slots=True)
class _Folder:
    """The folder of a run, as the list of its objects shows it.

    Attributes:
        youngest: age of the newest object, in seconds.
        oldest: age of the oldest object, in seconds.
        has_old_request: whether it contains a request that is older than the grace time.
    """

    youngest: float
    oldest: float = 0.0
    has_old_request: bool = False


class _Collection:
    def __init__(self, store: Store, grace: float) -> None:
        self._store = store
        self._grace = grace
        self.collected = Collected()

    def remove_probes(self) -> None:
        """Remove what a probe left whose process died."""
        for prefix in (keys.PROBED_RUN, *keys.PROBED_FOLDERS):
            for info in self._store.list(prefix):
                if info.age >= self._grace:
                    self._store.delete(info.key)

    def remove_runs_and_requests(self) -> None:
        """Look at all keys below `workflows/` in one pass.

        In memory are the folders of one workflow id, and all old notifications.
        """
        # A request is written before its notification, and notifications are listed before requests. So a listed
        # notification belongs to a listed request, or its request was withdrawn.
        notifications = {info.key for info in self._store.list(keys.NOTIFICATIONS) if info.age >= self._grace}
        indexed = index.IndexedIds([self._last_parts(keys.index(status)) for status in WorkflowStatus])
        for part, infos in groupby(self._store.list(keys.WORKFLOWS), lambda info: info.key.split("/")[1]):
            folders = self._folders(infos, notifications)
            with self._skipping_damage():
                self._judge(part, folders)
                has_old_folder = any(folder.oldest >= self._grace for folder in folders.values())
                if has_old_folder and not indexed.contains(part):
                    self._add_to_index(part)
        for notification in sorted(notifications):
            self._store.delete(notification)
        self.collected.notifications += len(notifications)

    def remove_owned_and_heartbeats(self) -> None:
        """Remove `owned/` objects of runs that cannot be owned, then heartbeats of managers that are gone."""
        owners = set()
        for info in self._store.list(keys.OWNED):
            if info.age < self._grace or not self._remove_owned(info.key):
                owners.add(info.key.split("/")[1])
        for info in self._store.list(keys.MANAGERS):
            is_gone = info.age > HEARTBEAT_TIMEOUT and info.age >= self._grace
            if is_gone and keys.last_part(info.key) not in owners:
                self._store.delete(info.key)
                self.collected.managers += 1

    def correct_index(self) -> None:
        """Replace index entries with a wrong status, and remove entries whose id has no run."""
        for status in WorkflowStatus:
            for info in self._store.list(keys.index(status)):
                if info.age >= self._grace:
                    with self._skipping_damage():
                        workflow_id = index.workflow_id_of(self._store, keys.last_part(info.key))
                        if workflow_id is None:
                            self._skip(f"{info.key}: no object records its workflow id")
                        else:
                            repair = index.repair(self._store, workflow_id, status)
                            self.collected.index_corrected += repair.corrections

    def _add_to_index(self, part: str) -> None:
        """Write the index entry of a run that has none. A delayed delete of a dead process may have removed it."""
        workflow_id = index.workflow_id_of(self._store, part)
        if workflow_id is not None and registry.latest_run_number(self._store, workflow_id):
            repair = index.repair(self._store, workflow_id, None)
            if repair.entry is not None:
                self.collected.index_added += 1

    def _last_parts(self, prefix: str) -> Iterator[str]:
        return (keys.last_part(info.key) for info in self._store.list(prefix))

    def _folders(self, infos: Iterable[ObjectInfo], notifications: set[str]) -> dict[tuple[int, str], _Folder]:
        """Return the run folders of one workflow id. Remove notifications of their requests from `notifications`."""
        folders: dict[tuple[int, str], _Folder] = {}
        for info in infos:
            found = keys.run_key(info.key)
            if found is None:  # a registry entry, or an object that this library did not write
                continue
            folder = folders.setdefault((found.run_number, found.run_uuid), _Folder(info.age))
            folder.youngest = min(folder.youngest, info.age)
            folder.oldest = max(folder.oldest, info.age)
            if found.kind == "inbox":
                folder.has_old_request |= info.age >= self._grace
                notifications.discard(keys.notification(found.run_uuid, found.last))
        return folders

    def _judge(self, part: str, folders: dict[tuple[int, str], _Folder]) -> None:
        """Remove the folders of one workflow id that are garbage, and old requests in the others."""
        due = [
            (run, folder)
            for run, folder in sorted(folders.items())
            if folder.has_old_request or folder.youngest >= self._grace
        ]
        if not due:
            return
        workflow_id = index.workflow_id_of(self._store, part)
        if workflow_id is None:
            self._skip(f"{keys.WORKFLOWS}{part}/: no object records its workflow id")
            return
        for (run_number, run_uuid), folder in due:
            run = OwnedRun(workflow_id, run_number, run_uuid)
            if folder.youngest >= self._grace and not self._may_be_valid(run):
                paths = RunPaths(workflow_id, run_number, run_uuid)
                self.collected.runs += 1
                self.collected.objects += remove_below(self._store, workflow_id, paths.folder)
            elif folder.has_old_request:
                self._withdraw_requests(run)

    def _remove_owned(self, key: str) -> bool:
        """Remove an `owned/` object if its run can never be owned again; returns whether the object is gone now."""
        with self._skipping_damage():
            run = owned.read(self._store, key)
            if run is None:
                return True
            if self._withdraw_requests(run):
                self._store.delete(key)
                self.collected.owned += 1
                return True
        return False

    def _may_be_valid(self, run: OwnedRun) -> bool:
        """Return whether the registry names the run, or may name it later.

        If the run was never created, write a tombstone, so that it cannot be created later.
        """
        latest = registry.latest_run_number(self._store, run.workflow_id)
        entry = registry.read_entry(self._store, run.workflow_id, latest) if latest else None
        decision = decide_folder(run.run_number, run.run_uuid, latest, entry)
        if decision is not FolderDecision.ABANDON:
            return decision is FolderDecision.KEEP
        tombstone = Tombstone(run.workflow_id, run.run_number, WorkflowStatus.CANCELED, "Abandoned", time.time())
        registered = registry.register(self._store, tombstone).entry
        if isinstance(registered, Created):  # a driver created a run under this number first
            return registered.run_uuid == run.run_uuid
        self.collected.abandoned += 1
        return False

    def _withdraw_requests(self, run: OwnedRun) -> bool:
        """Withdraw the requests of a finished run. Return whether the run can never be owned again."""
        if not self._may_be_valid(run):
            return True
        entry = registry.read_entry(self._store, run.workflow_id, run.run_number)
        if not isinstance(entry, Created):
            return False
        log = RunLog(self._store, entry)
        state = log.replay()
        if state.is_finished:
            self.collected.requests += withdraw_all(log, state)
        return state.status in UNCLAIMABLE

    @contextlib.contextmanager
    def _skipping_damage(self) -> Iterator[None]:
        try:
            yield
        except (CorruptLogError, NewerFormatError) as error:
            self._skip(str(error))
        except SupersededError as error:  # the run was deleted just now; the deletion removes its keys itself
            logger.info("%s", error)

    def _skip(self, why: str) -> None:
        logger.warning("garbage collection skips %s", why)
        self.collected.skipped.append(why)
