"""Removes the heartbeats of managers that ended with the Ray that this driver started.

With a driver ends the Ray that it started, and the managers in it. Their runs are then RESUMABLE for other machines at
once, and not only when the heartbeats expire.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from typing import Final

import ray

from workflow.engine.worker.run_values import shared_store
from workflow.errors import WorkflowError
from workflow.log import liveness, processes
from workflow.model.run_view import Owner
from workflow.store.retrying import within

PATIENCE: Final = 3.0
"""Seconds for which the exit of a driver waits for its managers, and for a store.

A heartbeat that stays expires later.
"""

logger = logging.getLogger(__name__)

_managers: dict[Owner, tuple[int, str]] = {}
"""The managers that this driver has used -> its own pid, and the address of their store."""


def expect(owner: Owner, store_url: str) -> None:
    """Remember a manager, whose heartbeat is removed at the exit of this process if the manager has ended by then."""
    if owner.process and owner not in _managers:
        _managers[owner] = (os.getpid(), store_url)


@atexit.register
def _remove_heartbeats() -> None:
    """Run at the exit of this process, before Ray's own exit handler: the one registered last runs first."""
    known = {owner: url for owner, (pid, url) in _managers.items() if pid == os.getpid()}  # not in a forked child
    starters = {owner: processes.parent(processes.last_pid(owner.process)) for owner in known}
    if os.getpid() in starters.values():
        ray.shutdown()  # this process started the raylet, and ends it now in any case
    deadline = time.monotonic() + PATIENCE
    ended = []
    for owner, starter in starters.items():
        is_ending = starter in (os.getpid(), 0)  # the raylet has ended, and a worker ends soon after it
        if processes.wait_until_ended(owner.process, deadline - time.monotonic() if is_ending else 0.0):
            ended.append(owner)
    for owner in ended:
        try:
            liveness.remove_heartbeat(within(shared_store(known[owner]), PATIENCE), owner)
        except WorkflowError as error:
            logger.warning("manager %s has ended, but its heartbeat is not removed: %s", owner.address, error)
