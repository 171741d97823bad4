"""What a user writes to have a workflow wait for something outside: event listeners. Needs no Ray.

Named as in Ray 1.12, where `workflow.event_listener.TimerListener` is found, too. `waits` composes them into workflows;
`engine.listener_host` awaits them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from workflow.log import stored_names


class EventListener:
    """Knows how to wait for one kind of event. Subclass it; it is made without arguments, anew for each call."""

    async def poll_for_event(self, *args: Any, **kwargs: Any) -> Any:
        """Return once the event is there.

        Many listeners share one process and one asyncio loop: await, and never block.

        Args:
            *args, **kwargs: as given to `wait_for_event`.

        Returns:
            The event; it is stored.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no poll_for_event")

    async def event_checkpointed(self, event: Any) -> None:
        """The event is stored and can be freed where it came from. Called at least once, also after a failure."""


class TimerListener(EventListener):
    """Its event comes at a given time, and is None."""

    async def poll_for_event(self, timestamp: float) -> None:
        """Return at that time, in seconds since 1970."""
        await asyncio.sleep(timestamp - time.time())


class _Call:
    """A method of a listener as a step's function; named like the method, as it stands in the log."""

    def __init__(self, listener: type[EventListener], method: str) -> None:
        self.listener = listener
        self.__module__ = listener.__module__
        self.__qualname__ = f"{listener.__qualname__}.{method}"
        self.__name__ = listener.__name__


class Poll(_Call):
    """The step that waits."""

    def __init__(self, listener: type[EventListener]) -> None:
        super().__init__(listener, "poll_for_event")

    def __reduce__(self) -> tuple[Any, ...]:
        return stored_names.poll, (self.listener,)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the event."""
        return await self.listener().poll_for_event(*args, **kwargs)


class Checkpointed(_Call):
    """The step behind it, once the event is stored.

    Args:
        listener: the class.
        caught: what comes is `(event, None)` or `(None, exception)`.
    """

    def __init__(self, listener: type[EventListener], caught: bool) -> None:
        super().__init__(listener, "event_checkpointed")
        self.caught = caught

    def __reduce__(self) -> tuple[Any, ...]:
        return stored_names.checkpointed, (self.listener, self.caught)

    async def __call__(self, polled: Any) -> Any:
        """Say so to the listener, and hand the event on."""
        event, error = polled if self.caught else (polled, None)
        if error is not None:
            raise error
        await self.listener().event_checkpointed(event)
        return event
