"""What others ask of the runs that a manager owns: reads their inboxes.

Called by `owning` for a claim, and by `upkeep` for a bell. A run loop keeps what it was handed, so that a request which
is on its way into the log is not handed on twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from workflow.engine.owner.run_loop import RunLoop
from workflow.log import keys
from workflow.store.port import Store

logger = logging.getLogger(__name__)


class Inbox:
    """The inboxes of one manager's runs.

    Args:
        store: where they lie.
        in_thread: runs a blocking call of the store elsewhere.
    """

    def __init__(self, store: Store, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._store = store
        self._in_thread = in_thread

    async def notified_runs(self) -> list[str]:
        """The uuids of the runs, of whatever manager, whose bell was rung."""
        notified_runs = await self._in_thread(lambda: [info.key for info in self._store.list(keys.NOTIFICATIONS)])
        return list(dict.fromkeys(keys.last_part(key).partition(".")[0] for key in notified_runs))

    async def look(self, loop: RunLoop) -> None:
        """Hand each new request of a run on to its loop."""
        for request in await self._in_thread(loop.log.inbox):
            if request in loop.asked or request in loop.state.handled_requests:
                continue
            key = loop.log.paths.request(request)
            data = await self._in_thread(lambda key=key: self._store.get(key))  # type: ignore[misc]
            if data is None:
                continue
            loop.asked.add(request)
            content = _read(data)
            if content.get("kind") == "cancel":
                loop.cancel(request, str(content.get("reason", "")), str(content.get("uid", "")))
            else:
                logger.warning("%s: a request that this version does not know is left alone", key)


def _read(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
