"""Event listeners: classes with which a user's workflow waits for something outside. This module needs no Ray.

Names follow Ray 1.12, where `workflow.event_listener.TimerListener` exists, too. `workflow.waits` composes listeners
into workflows, and `workflow.engine.worker.event_host` awaits them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from workflow.log import stored_names


class EventListener:
    """Waits for one kind of event. Subclass it. A new instance is created, without arguments, for each call."""

    async def poll_for_event(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the event and return it. The returned event is stored.

        Many listeners share one process and one asyncio loop. Await everything, and never block.

        Args:
            *args, **kwargs: the arguments that were passed to `wait_for_event`.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no poll_for_event; define it as `async def`")

    async def event_checkpointed(self, event: Any) -> None:
        """Handle that the event is stored: its source may now free it.

        After a failure this method is called again with the same event.
        """


class TimerListener(EventListener):
    """Waits until a given time. Its event is None."""

    async def poll_for_event(self, timestamp: float) -> None:
        """Return at the given time, in seconds since 1970."""
        await asyncio.sleep(timestamp - time.time())


class _Call:
    """A method of a listener as the function of a step, with the method's name, which the log records."""

    def __init__(self, listener: type[EventListener], method: str) -> None:
        self.listener = listener
        self.__module__ = listener.__module__
        self.__qualname__ = f"{listener.__qualname__}.{method}"
        self.__name__ = listener.__name__


class Poll(_Call):
    """The function of the first step of a wait: it waits for the event."""

    def __init__(self, listener: type[EventListener]) -> None:
        super().__init__(listener, "poll_for_event")

    def __reduce__(self) -> tuple[Any, ...]:
        return stored_names.poll, (self.listener,)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the event and return it."""
        return await self.listener().poll_for_event(*args, **kwargs)


class Checkpointed(_Call):
    """The function of the second step of a wait. It runs after the event is stored.

    Args:
        listener: the listener class.
        caught: whether the outcome of the first step is `(event, None)` or `(None, exception)`.
    """

    def __init__(self, listener: type[EventListener], caught: bool) -> None:
        super().__init__(listener, "event_checkpointed")
        self.caught = caught

    def __reduce__(self) -> tuple[Any, ...]:
        return stored_names.checkpointed, (self.listener, self.caught)

    async def __call__(self, polled: Any) -> Any:
        """Notify the listener that the event is stored, and return the event."""
        event, error = polled if self.caught else (polled, None)
        if error is not None:
            raise error
        await self.listener().event_checkpointed(event)
        return event
