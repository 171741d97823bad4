"""Decides whether the owner of a run is lost: proven on the machine where it ran, by its heartbeat everywhere else.

The decision only matters for whether a claim is tried. The log's next free slot decides who owns the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from workflow.log import keys, processes
from workflow.model.run_view import Owner
from workflow.store.port import Store

HEARTBEAT_TIMEOUT: Final = 30.0
"""Seconds without a heartbeat, by the store's clock, after which a manager is considered dead."""

WATCH_PAUSE: Final = 0.5
"""Seconds between two looks at the heartbeats that `watch` waits for."""

_CLOCK_TOLERANCE: Final = 1.5
"""Seconds by which the age of a heartbeat may differ from the time that has passed. Stores give whole seconds."""


def send_heartbeat(store: Store, owner: Owner, runs: int, waits: Mapping[str, str] | None = None) -> None:
    """Write the heartbeat of a manager.

    Args:
        store: the store of its runs.
        owner: the identity of the manager.
        runs: how many runs it drives, for people who look.
        waits: why steps have no worker, by the uuid of their run; None if no step waits.
    """
    content = {"incarnation": owner.incarnation, "runs": runs, **({"waits": dict(waits)} if waits else {})}
    store.overwrite(keys.heartbeat(owner.manager), json.dumps(content).encode())


def wait_reason(store: Store, owner: Owner, run_uuid: str) -> str:
    """Return why steps of a run have no worker, from the last heartbeat of its owner; empty if none waits for long."""
    content = store.get(keys.heartbeat(owner.manager))
    try:
        heartbeat = json.loads(content or b"{}")
        return str(heartbeat["waits"][run_uuid]) if heartbeat["incarnation"] == owner.incarnation else ""
    except (ValueError, KeyError, TypeError):  # no step of the run waits, or an earlier version wrote the heartbeat
        return ""


def remove_heartbeat(store: Store, owner: Owner) -> None:
    """Remove the heartbeat of a manager that has left. A heartbeat of a later incarnation stays."""
    key = keys.heartbeat(owner.manager)
    content = store.get(key)
    if content is not None and json.loads(content).get("incarnation") == owner.incarnation:
        store.delete(key)


def heartbeat_age(store: Store, manager: str) -> float | None:
    """Return how many seconds ago a manager sent its last heartbeat, by the store's own clock; None if it has none."""
    info = store.head(keys.heartbeat(manager))
    return None if info is None else info.age


def is_lost(store: Store, owner: Owner) -> bool:
    """Return whether the owner of a run is considered dead.

    Its processes ran on this machine and have ended, or its heartbeat is missing or older than 30 s.
    """
    return processes.have_ended(owner.process) or _is_expired(heartbeat_age(store, owner.manager))


def _is_expired(age: float | None) -> bool:
    return age is None or age > HEARTBEAT_TIMEOUT


def watch(
    store: Store,
    owners: Collection[Owner],
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> set[Owner]:
    """Wait until it is known of each owner whether it is lost. An owner that sends another heartbeat is alive.

    Args:
        store: the store of the heartbeats.
        owners: the owners to decide about.
        sleep: waits for some seconds.
        monotonic: the seconds since an arbitrary moment.

    Returns:
        The owners that are lost. The call takes no longer than `HEARTBEAT_TIMEOUT` and a few seconds.
    """
    lost: set[Owner] = set()
    first_seen: dict[Owner, tuple[float, float]] = {}
    undecided = dict.fromkeys(owners)
    while undecided:
        for owner in list(undecided):
            age = heartbeat_age(store, owner.manager)
            if age is None or _is_expired(age) or processes.have_ended(owner.process):
                lost.add(owner)
                del undecided[owner]
                continue
            first_age, since = first_seen.setdefault(owner, (age, monotonic()))
            if age + _CLOCK_TOLERANCE < first_age + monotonic() - since:
                del undecided[owner]
        if undecided:
            sleep(WATCH_PAUSE)
    return lost
