"""Reads the inboxes of a manager's runs: the requests of processes that do not own them.

`owned_runs` reads the inbox of a run after it claimed the run, and `maintenance` after a notification. A run loop
remembers the requests that it received, so a request is not delivered twice while its record is being stored.
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
        store: the store that contains the inboxes.
        in_thread: runs a blocking call of the store in another thread.
    """

    def __init__(self, store: Store, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._store = store
        self._in_thread = in_thread

    async def notified_runs(self) -> list[str]:
        """Return the uuids of all runs with a notification, including runs of other managers."""
        found = await self._in_thread(lambda: [info.key for info in self._store.list(keys.NOTIFICATIONS)])
        run_uuids = [keys.last_part(key).partition(".")[0] for key in found]
        return list(dict.fromkeys(run_uuids))  # a run with several notifications is returned once

    async def deliver(self, loop: RunLoop) -> None:
        """Read the inbox of a run, and deliver each new request to its loop."""
        for request_id in await self._in_thread(loop.log.inbox):
            if request_id in loop.received_requests or request_id in loop.state.handled_requests:
                continue
            key = loop.log.paths.request(request_id)
            data = await self._in_thread(lambda key=key: self._store.get(key))  # type: ignore[misc]
            if data is None:
                continue
            loop.received_requests.add(request_id)
            content = _parse(data)
            if content.get("kind") == "cancel":
                loop.cancel(request_id, str(content.get("reason", "")), str(content.get("uid", "")))
            else:
                logger.warning("request %s is ignored: this version of the library does not know its kind", key)


def _parse(data: bytes) -> dict[str, Any]:
    """Return the fields of a request; none if it is not a JSON object."""
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
