"""Collect garbage: remove what no run needs any more. Without Ray: for a CronJob, the operator, or a person.

Safe at any moment and beside anybody, whatever the grace time. A run's folder is removed only where its name can never
count again: a higher one counts, or another run or a tombstone stands in its place. Where its name is free, a tombstone
is put there first, and whoever meant to make that run finds it. The index, from which lists are answered, is made to
say what the logs say. Clocks only decide when to try.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import Final

from workflow.errors import CorruptLogError, InvalidInputError, NewerFormatError, SupersededError
from workflow.log import index, keys, owned, registry
from workflow.log.claim import HEARTBEAT_TIMEOUT
from workflow.log.keys import RunPaths
from workflow.log.owned import OwnedRun
from workflow.log.registry import RegistryEntry
from workflow.log.run_log import RunLog
from workflow.model.records import FREES_ID, Created, Tombstone
from workflow.model.status import WorkflowStatus
from workflow.requests import remove_below, withdraw_all
from workflow.store.port import ObjectInfo, Store

logger = logging.getLogger(__name__)

DAY: Final = 86_400.0

_OVER: Final = frozenset({WorkflowStatus.SUCCESSFUL, WorkflowStatus.CANCELED})
"""The ends behind which nobody can claim a run any more."""


@dataclass(slots=True)
class Collected:
    """What a collection removed, and what it could not judge.

    Attributes:
        runs: folders of runs that no name counts for.
        objects: what lay in them.
        forbidden: of these runs, those that had been begun and never made; each has a tombstone now.
        requests: what was asked of runs that had ended.
        bells: rung for requests that are gone.
        owned: notes that a manager may own a run that nobody can own any more.
        managers: heartbeats of managers that are gone and own nothing.
        index: entries of the index that told of no run, or of another status than its log; those that were put in their
            place are not counted.
        unlisted: runs that had no entry in the index; each has one now.
        left: why something was left that looks like garbage; one text for each.
    """

    runs: int = 0
    objects: int = 0
    forbidden: int = 0
    requests: int = 0
    bells: int = 0
    owned: int = 0
    managers: int = 0
    index: int = 0
    unlisted: int = 0
    left: list[str] = field(default_factory=list)


def collect(store: Store, *, grace: float = DAY) -> Collected:
    """Remove what deleted runs, drivers that died and managers that left have left behind.

    Args:
        store: which.
        grace: seconds, by the store's own clock, for which something must lie unchanged before it is looked at. A
            driver that takes longer than this between storing its first argument and making its run begins anew.

    Returns:
        What was removed. What is damaged is left, and told there.

    Raises:
        Invalid: the grace is negative.
        StoreUnavailable, StoreRefused: the store does not answer; what is left is the next collection's.
    """
    if grace < 0:
        raise InvalidInputError(f"a grace time of {grace} seconds is in the future; give 0 or more")
    collection = _Collection(store, grace)
    collection.bells_and_runs()
    collection.managers()
    collection.index()
    return collection.collected


class Fate(Enum):
    """What becomes of a run's folder."""

    KEEP = "keep"
    REMOVE = "remove"
    FORBID = "forbid"
    """No such run was made; where a tombstone wins its name, the folder goes."""


def fate(run_number: int, run_uuid: str, highest: int, named: RegistryEntry | None) -> Fate:
    """What to do with a run's folder; what it says stays true whatever others do meanwhile.

    Args:
        n, run_uuid: the run's.
        highest: the highest n that is named under the workflow id; 0 where none is.
        named: what stands there.
    """
    if run_number < highest:
        return Fate.REMOVE
    if run_number == highest:
        mine = isinstance(named, Created) and named.run_uuid == run_uuid
        return Fate.KEEP if mine else Fate.REMOVE
    # A tombstone above what people still read (a run, or why there is none) would hide it: that folder waits.
    free = named is None or (isinstance(named, Tombstone) and named.reason in FREES_ID)
    return Fate.FORBID if free and run_number == highest + 1 else Fate.KEEP


@dataclass(slots=True)
class _Folder:
    """A run's folder, as a list shows it.

    Attributes:
        youngest, oldest: seconds since something was written there, last and first.
        asked: whether a request has lain there for the grace time.
    """

    youngest: float
    oldest: float = 0.0
    asked: bool = False


class _Collection:
    def __init__(self, store: Store, grace: float) -> None:
        self._store = store
        self._grace = grace
        self.collected = Collected()

    def bells_and_runs(self) -> None:
        """One pass over all keys below `workflows/`. It holds the keys of one id's folders, and the old bells."""
        # A bell is rung behind its request, so that one whose request is not seen below has none any more.
        bells = {info.key for info in self._store.list(keys.NOTIFICATIONS) if info.age >= self._grace}
        listed = index.IndexedIds([self._parts(keys.index(status)) for status in WorkflowStatus])
        for part, infos in groupby(self._store.list(keys.WORKFLOWS), lambda info: info.key.split("/")[1]):
            folders = self._folders(infos, bells)
            with self._leaving_what_is_damaged():
                self._judge(part, folders)
                old = any(folder.oldest >= self._grace for folder in folders.values())
                if old and not listed.contains(part):
                    self._list(part)
        for bell in sorted(bells):
            self._store.delete(bell)
        self.collected.bells += len(bells)

    def managers(self) -> None:
        """What says that a manager may own a run, and that a manager lives."""
        busy = set()
        for info in self._store.list(keys.OWNED):
            if info.age < self._grace or not self._forgets(info.key):
                busy.add(info.key.split("/")[1])
        for info in self._store.list(keys.MANAGERS):
            silent = info.age > HEARTBEAT_TIMEOUT and info.age >= self._grace
            if silent and keys.last_part(info.key) not in busy:
                self._store.delete(info.key)
                self.collected.managers += 1

    def index(self) -> None:
        """What lists are answered from: entries that are wrong are replaced, or removed where the id names nothing."""
        for status in WorkflowStatus:
            for info in self._store.list(keys.index(status)):
                if info.age >= self._grace:
                    with self._leaving_what_is_damaged():
                        workflow_id = index.workflow_id_of(self._store, keys.last_part(info.key))
                        if workflow_id is None:
                            self._leave(f"{info.key}: no workflow id is known for it")
                        else:
                            self.collected.index += index.repair(self._store, workflow_id, status).corrections

    def _list(self, part: str) -> None:
        """Put an entry where a run has none: a call of somebody dead, that came late, may have taken it."""
        workflow_id = index.workflow_id_of(self._store, part)
        if workflow_id is not None and registry.latest_run_number(self._store, workflow_id):
            self.collected.unlisted += index.repair(self._store, workflow_id, None).entry is not None

    def _parts(self, prefix: str) -> Iterator[str]:
        return (keys.last_part(info.key) for info in self._store.list(prefix))

    def _folders(self, infos: Iterable[ObjectInfo], bells: set[str]) -> dict[tuple[int, str], _Folder]:
        """One id's run folders; the bells of the requests in them are taken out of `bells`."""
        folders: dict[tuple[int, str], _Folder] = {}
        for info in infos:
            found = keys.run_key(info.key)
            if found is None:  # a name, or nothing of ours
                continue
            folder = folders.setdefault((found.run_number, found.run_uuid), _Folder(info.age))
            folder.youngest = min(folder.youngest, info.age)
            folder.oldest = max(folder.oldest, info.age)
            if found.kind == "inbox":
                folder.asked |= info.age >= self._grace
                bells.discard(keys.notification(found.run_uuid, found.last))
        return folders

    def _judge(self, part: str, folders: dict[tuple[int, str], _Folder]) -> None:
        due = [
            (run, folder) for run, folder in sorted(folders.items()) if folder.asked or folder.youngest >= self._grace
        ]
        if not due:
            return
        workflow_id = index.workflow_id_of(self._store, part)
        if workflow_id is None:
            self._leave(f"{keys.WORKFLOWS}{part}/: no workflow id is known for it")
            return
        for (run_number, run_uuid), folder in due:
            run = OwnedRun(workflow_id, run_number, run_uuid)
            if folder.youngest >= self._grace and not self._is_named(run):
                paths = RunPaths(workflow_id, run_number, run_uuid)
                self.collected.runs += 1
                self.collected.objects += remove_below(self._store, workflow_id, paths.folder)
            elif folder.asked:
                self._is_over(run)

    def _forgets(self, key: str) -> bool:
        """Whether an `owned/` key is gone, here or elsewhere."""
        with self._leaving_what_is_damaged():
            run = owned.read(self._store, key)
            if run is None:
                return True
            if self._is_over(run):
                self._store.delete(key)
                self.collected.owned += 1
                return True
        return False

    def _is_named(self, run: OwnedRun) -> bool:
        """Whether the run's name counts, or may yet; forbids a run that was begun and never made."""
        highest = registry.latest_run_number(self._store, run.workflow_id)
        named = registry.read_entry(self._store, run.workflow_id, highest) if highest else None
        found = fate(run.run_number, run.run_uuid, highest, named)
        if found is not Fate.FORBID:
            return found is Fate.KEEP
        swept = Tombstone(run.workflow_id, run.run_number, WorkflowStatus.CANCELED, "Abandoned", time.time())
        there = registry.register(self._store, swept).entry
        if isinstance(there, Created):
            return there.run_uuid == run.run_uuid
        self.collected.forbidden += 1
        return False

    def _is_over(self, run: OwnedRun) -> bool:
        """Whether nobody can ever own the run; withdraws what was asked of one that has ended."""
        if not self._is_named(run):
            return True
        named = registry.read_entry(self._store, run.workflow_id, run.run_number)
        if not isinstance(named, Created):
            return False
        log = RunLog(self._store, named)
        state = log.replay()
        if state.is_finished:
            self.collected.requests += withdraw_all(log, state)
        return state.status in _OVER

    @contextlib.contextmanager
    def _leaving_what_is_damaged(self) -> Iterator[None]:
        try:
            yield
        except (CorruptLogError, NewerFormatError) as error:
            self._leave(str(error))
        except SupersededError as error:  # deleted just now, by somebody who removes its keys himself
            logger.info("%s", error)

    def _leave(self, why: str) -> None:
        logger.warning("left as it is: %s", why)
        self.collected.left.append(why)
