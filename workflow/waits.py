"""Workflows that only wait: `sleep` and `wait_for_event`. They take no place in the cluster while they do."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from workflow.errors import InvalidInputError, WrongTypeError
from workflow.event_listener import Checkpointed, EventListener, Poll
from workflow.model.graph import StepKind, StepOptions
from workflow.steps import StepFunction, Workflow

T = TypeVar("T")

OPTIONS = ("catch_exceptions", "max_retries", "metadata", "name")
LISTENERS_KEPT = 1_000

_STORED = StepOptions(checkpoint=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Wait(Workflow[T]):
    """A wait that was composed.

    Attributes:
        given: its options, as the user gave them.
        compose: makes the same wait with other options.
    """

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compose: Callable[[Mapping[str, Any]], Wait[T]] | None = None

    def options(self, **options: Any) -> Wait[T]:
        """The same wait with `name`, `metadata`, `max_retries` or `catch_exceptions`, as steps have them.

        Raises:
            Invalid: it is another option: a wait takes no place in the cluster, and what it gives is always stored.
        """
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise InvalidInputError(f"a wait has no option {', '.join(unknown)}; it has {', '.join(OPTIONS)}")
        assert self.compose is not None, "both makers of waits give it"
        return self.compose({**self.given, **options})


def sleep(duration: float) -> Wait[None]:
    """A workflow that ends after some time, with None.

    The time begins when the workflow that it is part of comes to it, and goes on while no cluster runs. Neither a
    restart nor a set clock makes it begin anew; see docs/events.md.

    Args:
        duration: seconds; none where negative.

    Raises:
        WrongType, Invalid: it is no number, or not finite.
    """
    if not isinstance(duration, (int, float)) or isinstance(duration, bool):
        raise WrongTypeError(f"sleep takes a number of seconds, not {duration!r}")
    if not math.isfinite(duration):
        raise InvalidInputError(f"sleep takes a finite number of seconds, not {duration!r}")
    seconds = max(float(duration), 0.0)

    def compose(given: Mapping[str, Any]) -> Wait[None]:
        return _waiting(StepFunction(sleep, _STORED).options(**given).step(seconds), given, compose, seconds)

    return compose({})


def wait_for_event(event_listener_type: type[EventListener], *args: Any, **kwargs: Any) -> Wait[Any]:
    """A workflow that waits until an event listener returns, and gives its event.

    Two steps: `poll_for_event` is awaited until the event is there; once that is stored, `event_checkpointed` is
    awaited. Both on the asyncio loop of one process for all listeners, which holds no CPU of the cluster.

    Args:
        event_listener_type: a subclass of EventListener that can be made without arguments.
        *args, **kwargs: for its `poll_for_event`; may be or hold other workflows, like a step's.

    Raises:
        WrongType: it is no such class, its methods are not `async def`, or the arguments do not fit `poll_for_event`.
    """
    listener = _checked(event_listener_type)
    try:
        inspect.signature(listener.poll_for_event).bind(None, *args, **kwargs)
    except TypeError as error:
        raise WrongTypeError(f"{listener.__qualname__}.poll_for_event: {error}") from None

    def compose(given: Mapping[str, Any]) -> Wait[Any]:
        tries = {key: given[key] for key in ("catch_exceptions", "max_retries") if key in given}
        poll = StepFunction(_poll(listener), _STORED).options(**tries).step(*args, **kwargs)
        checkpointed = _checkpointed(listener, bool(given.get("catch_exceptions")))
        last = StepFunction(checkpointed, _STORED).options(**given).step(_waiting(poll, tries))
        return _waiting(last, given, compose)

    return compose({})


def _waiting(
    step: Workflow[Any],
    given: Mapping[str, Any],
    compose: Callable[[Mapping[str, Any]], Wait[Any]] | None = None,
    seconds: float | None = None,
) -> Wait[Any]:
    kind = StepKind.EVENT if seconds is None else StepKind.SLEEP
    return Wait(
        step.function,
        step.args,
        step.kwargs,
        step.step_options,
        step.name,
        kind,
        seconds or 0.0,
        given=given,
        compose=compose,
    )


def _checked(given: Any) -> Any:
    if not isinstance(given, type) or not issubclass(given, EventListener):
        raise WrongTypeError(f"wait_for_event takes a subclass of workflow.EventListener, not {given!r}")
    for method in ("poll_for_event", "event_checkpointed"):
        if not inspect.iscoroutinefunction(getattr(given, method)):
            raise WrongTypeError(f"{given.__qualname__}.{method} must be an `async def`: what it waits for, it awaits")
    return given


# One object for each listener, so that its pickle is stored once a run, however many waits there are.
@functools.lru_cache(LISTENERS_KEPT)
def _poll(listener: Any) -> Poll:
    return Poll(listener)


@functools.lru_cache(LISTENERS_KEPT)
def _checkpointed(listener: Any, caught: bool) -> Checkpointed:
    return Checkpointed(listener, caught)
