"""The runs that a manager may own: objects `owned/<manager id>/<run uuid>`, from which a restarted manager recovers.

An object is written before the manager creates or claims the run, and deleted after the run is finished or has another
owner. It means only that the manager may own the run; the log of the run decides.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from workflow.errors import CorruptLogError
from workflow.log import keys
from workflow.log.damage import damaged
from workflow.store.port import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnedRun:
    """A run that a manager may own."""

    workflow_id: str
    run_number: int
    run_uuid: str


def add(store: Store, manager: str, run: OwnedRun) -> None:
    """Record that a manager may own a run. Called before the run is created or claimed."""
    content = json.dumps({"workflow_id": run.workflow_id, "run_number": run.run_number}).encode()
    store.create(keys.owned(manager, run.run_uuid), content, uuid.uuid4().hex)


def remove(store: Store, manager: str, run_uuid: str) -> None:
    """Remove the record of a run that is finished or has another owner."""
    store.delete(keys.owned(manager, run_uuid))


def list_runs(store: Store, manager: str) -> Iterator[OwnedRun]:
    """Yield the runs that a manager may own; a damaged record is skipped and logged."""
    for info in store.list(keys.owned(manager)):
        try:
            found = read(store, info.key)
        except CorruptLogError as error:
            logger.error("manager %s does not recover a run: %s", manager, error)
            continue
        if found is not None:
            yield found


def read(store: Store, key: str) -> OwnedRun | None:
    """Return the run that an `owned/` key records; None if the key does not exist.

    Raises:
        CorruptLogError: the object is damaged.
    """
    content = store.get(key)
    if content is None:
        return None
    try:
        data = json.loads(content)
        return OwnedRun(data["workflow_id"], data["run_number"], keys.last_part(key))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(key, f"it names no run, but contains {content[:40]!r}") from error
