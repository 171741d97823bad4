"""What the index says of an id against what its log says: for whoever puts wrong and missing entries right.

Entries are hints, written and removed behind the log. A call of somebody who is dead by then may come late: it leaves
an entry that is wrong, or takes one that is right.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from workflow.log import keys, registry
from workflow.log.run_log import RunLog
from workflow.model.records import FREES_ID, Created, StatusChanged
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store


class Listed:
    """Which ids have an entry in the index, asked for in the order of the store's folders; holds a few at a time.

    Args:
        entries: for each status the parts that stand for ids, in the order of the store's objects. It is another order:
            `a` comes before `a-b`, but the folder `a/` behind `a-b/`.
    """

    def __init__(self, entries: Iterable[Iterator[str]]) -> None:
        self._entries = heapq.merge(*entries)
        self._ahead = next(self._entries, None)
        self._passed: list[str] = []

    def __contains__(self, part: str) -> bool:
        """Whether there is an entry. The folder of an entry that was passed may come yet where it begins this one."""
        self._passed = [each for each in self._passed if part.startswith(each)]
        while self._ahead is not None and self._ahead <= part:
            if part.startswith(self._ahead):
                self._passed.append(self._ahead)
            self._ahead = next(self._entries, None)
        return part in self._passed


def correct(store: Store, workflow_id: str, said: WorkflowStatus | None) -> list[WorkflowStatus | None]:
    """Put one entry right. Who changes a run writes its log first, its entry then: the log is read again behind.

    Args:
        store: with both.
        workflow_id: whose entry it is.
        said: what it says; None where there is none.

    Returns:
        What it said one after another, first to last: one thing where that was right. Each but the last is gone.

    Raises:
        Corrupt, Superseded: the log is damaged, or was deleted just now.
    """
    told = [said]
    while (true := status(store, workflow_id)) is not said:
        if true is not None:  # the new entry comes first, so that the run is in a list at any moment
            registry.index(store, workflow_id, true, replaces=())
        if said is not None:
            store.delete(keys.index(said, workflow_id))
        told.append(true)
        said = true
    return told


def status(store: Store, workflow_id: str) -> WorkflowStatus | None:
    """What the index is to say of an id; None: nothing, since it names nothing."""
    named = registry.current_entry(store, workflow_id)
    if isinstance(named, Created):
        log = RunLog(store, named)
        found = _last_end(log) or log.replay().status
        return found if found.is_terminal else registry.LIVE
    if named is not None and named.reason not in FREES_ID:
        return named.status
    # A run that is begun has its functions stored, then its entry, then its name.
    begun = next(store.list(keys.runs(workflow_id)), None)
    return registry.LIVE if begun is not None else None


def _last_end(log: RunLog) -> WorkflowStatus | None:
    """The end that stands in the last segment, without reading those before it; None where it holds none."""
    last = max((info.key for info in log.store.list(log.paths.segments)), default=None)
    records = log.read(int(keys.last_part(last))) if last is not None else None
    end = records[-1] if records else None
    return end.status if isinstance(end, StatusChanged) and end.status.is_terminal else None
