"""What the parts of one manager share: the store, its identity, its runtime, and its calls to the manager itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow.engine.owner.inbox import Inbox
from workflow.engine.owner.run_loop import RunServices
from workflow.engine.owner.runtime import Clock, Threads
from workflow.log.failpoints import Failpoints
from workflow.model.run_view import Owner
from workflow.store.port import Store


@dataclass(frozen=True)
class ManagerContext:
    """What the parts of one manager share.

    Attributes:
        identity: the manager's id, incarnation and address, as records name it.
        services: passed to each run loop.
        spawn: starts a task that is canceled when the manager leaves.
        refuse_when_leaving: raises UnavailableError if the manager is leaving.
        report_replacement: called when a later incarnation of this manager is known to run. This process must exit.
    """

    store: Store
    identity: Owner
    clock: Clock
    threads: Threads
    services: RunServices
    inbox: Inbox
    failpoints: Failpoints
    spawn: Callable[[Awaitable[None]], None]
    refuse_when_leaving: Callable[[], None]
    report_replacement: Callable[[], None]
