"""Workflows that only wait: `sleep` and `wait_for_event`. They use no CPU and no worker while they wait."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from workflow.errors import InvalidInputError, WrongTypeError
from workflow.event_listener import Checkpointed, EventListener, Poll
from workflow.model.calls import checked_call, is_number, shown, similar
from workflow.model.graph import StepKind, StepNode, StepOptions, metadata_text
from workflow.model.signatures import signature_of, without_annotations
from workflow.options import merged
from workflow.steps import StepFunction, Workflow

T = TypeVar("T")

OPTIONS: Final = ("catch_exceptions", "max_retries", "metadata", "name")
"""The options that a wait accepts."""

_LISTENERS_CACHED: Final = 1_000
_ALWAYS_STORED: Final = StepOptions(checkpoint=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Wait(Workflow[T]):
    """A composed sleep or wait for an event.

    Attributes:
        given: the options that the user gave.
        compose: creates the same wait with other options.
    """

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compose: Callable[[Mapping[str, Any]], Wait[T]] | None = None

    def options(self, **options: Any) -> Wait[T]:
        """Return the same wait with another `name`, `metadata`, `max_retries` or `catch_exceptions`.

        Raises:
            InvalidInputError: another option is given. A wait needs no resources, and its outcome is always stored.
        """
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise InvalidInputError(
                f"a wait has no option {', '.join(unknown)}{similar(unknown[0], OPTIONS)}; it has {', '.join(OPTIONS)}"
            )
        assert self.compose is not None, "sleep and wait_for_event always pass it"
        if "metadata" in options:  # a copy, because a later call may use it again
            options["metadata"] = json.loads(metadata_text(options["metadata"]))
        return self.compose({**self.given, **options})


@checked_call("workflow.sleep")
def sleep(duration: float) -> Wait[None]:
    """Return a workflow that finishes with None after some time.

    The time starts when the run reaches the sleep, and continues while no cluster is running. A restart of the run does
    not start it again; see docs/events.md for changes of the clock.

    Args:
        duration: seconds. A negative duration counts as 0.

    Raises:
        WrongTypeError: the duration is not a number.
        InvalidInputError: the duration is not finite.
    """
    seconds = max(_seconds(duration), 0.0)

    def compose(given: Mapping[str, Any]) -> Wait[None]:
        step = StepFunction(sleep, _ALWAYS_STORED).options(**given).step(seconds)
        return _wait(step, StepKind.SLEEP, given, compose, seconds)

    return compose({})


@checked_call("workflow.wait_for_event")
def wait_for_event(event_listener_type: type[EventListener], *args: Any, **kwargs: Any) -> Wait[Any]:
    """Return a workflow that waits until an event listener returns an event. Its value is the event.

    The wait consists of two steps. The first awaits `poll_for_event`. After the event is stored, the second awaits
    `event_checkpointed`. All listeners of a manager share the asyncio loop of one process, which holds no CPU.

    Args:
        event_listener_type: a subclass of EventListener that can be created without arguments.
        *args, **kwargs: arguments for its `poll_for_event`. Like arguments of steps, they may be or contain workflows.

    Raises:
        WrongTypeError: the class is not such a subclass, its methods are not `async def`, or the arguments do not match
            the signature of `poll_for_event`.
    """
    listener = _checked(event_listener_type)
    signature = signature_of(listener.poll_for_event)
    try:
        signature.bind(None, *args, **kwargs)
    except TypeError as error:
        called = f"{listener.__qualname__}.poll_for_event{without_annotations(signature)}"
        raise WrongTypeError(f"wait_for_event cannot pass its other arguments to {called}: {error}") from None

    poll_step = StepFunction(_poll(listener), _ALWAYS_STORED).step(*args, **kwargs)

    def compose(given: Mapping[str, Any]) -> Wait[Any]:
        poll_options = {key: given[key] for key in ("catch_exceptions", "max_retries") if key in given}
        changed = dataclasses.replace(poll_step, step_options=merged(poll_options, _ALWAYS_STORED))
        poll = _wait(changed, StepKind.EVENT, poll_options)
        checkpointed = _checkpointed(listener, bool(given.get("catch_exceptions")))
        last = StepFunction(checkpointed, _ALWAYS_STORED).options(**given).step(poll)
        return _wait(last, StepKind.EVENT, given, compose)

    return compose({})


def _seconds(duration: Any) -> float:
    if not is_number(duration):
        advice = "; pass an int or a float"
        if isinstance(duration, datetime.timedelta):
            advice = "; pass its total_seconds()"
        elif isinstance(duration, StepNode):
            advice = "; if a step computes the duration, let another step take it and return workflow.sleep(duration)"
        raise WrongTypeError(f"sleep takes a number of seconds, not {shown(duration)}{advice}")
    try:
        seconds = float(duration)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise InvalidInputError(f"sleep takes a finite number of seconds, not {shown(duration)}")
    return seconds


def _wait(
    step: Workflow[Any],
    kind: StepKind,
    given: Mapping[str, Any],
    compose: Callable[[Mapping[str, Any]], Wait[Any]] | None = None,
    seconds: float = 0.0,
) -> Wait[Any]:
    return Wait(
        step.function,
        step.args,
        step.kwargs,
        step.step_options,
        step.name,
        kind,
        seconds,
        step.taken,
        given=given,
        compose=compose,
    )


def _checked(given: Any) -> Any:
    if not isinstance(given, type) or not issubclass(given, EventListener):
        is_object = isinstance(given, EventListener)
        advice = f"; pass the class {type(given).__qualname__} instead of an object of it" if is_object else ""
        raise WrongTypeError(f"wait_for_event takes a subclass of workflow.EventListener, not {shown(given)}{advice}")
    if given.poll_for_event is EventListener.poll_for_event:
        raise WrongTypeError(
            f"wait_for_event cannot use {given.__qualname__}: it does not define `async def poll_for_event(self, ...)`"
        )
    try:
        signature_of(given).bind()
    except TypeError as error:
        raise WrongTypeError(
            f"wait_for_event cannot use {given.__qualname__}: its __init__ must work without arguments, because an "
            f"object is created for each call ({error}); let poll_for_event take them"
        ) from None
    except ValueError:  # it has no signature, as some classes written in C; the call checks it
        pass
    for method in ("poll_for_event", "event_checkpointed"):
        if not inspect.iscoroutinefunction(getattr(given, method)):
            raise WrongTypeError(f"{given.__qualname__}.{method} must be an `async def`, because it is awaited")
    return given


# The same object for the same listener, so that a run stores its pickle once, however many waits it has.
@functools.lru_cache(_LISTENERS_CACHED)
def _poll(listener: Any) -> Poll:
    return Poll(listener)


@functools.lru_cache(_LISTENERS_CACHED)
def _checkpointed(listener: Any, caught: bool) -> Checkpointed:
    return Checkpointed(listener, caught)
