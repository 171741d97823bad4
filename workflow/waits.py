"""Workflows that only wait: `sleep`, `wait_for_event` and `wait`. They use no CPU and no worker while they wait."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from workflow.errors import InvalidInputError, WrongTypeError
from workflow.event_listener import Checkpointed, EventListener, Poll
from workflow.model.calls import checked_call, is_number, shown, similar
from workflow.model.graph import StepAddress, StepKind, StepNode, StepOptions, WaitOptions, metadata_text
from workflow.model.signatures import signature_of, without_annotations
from workflow.options import merged, name_of
from workflow.steps import StepFunction, Workflow

T = TypeVar("T")

OPTIONS: Final = ("catch_exceptions", "max_retries", "metadata", "name")
"""The options that a wait accepts."""

_LISTENERS_CACHED: Final = 1_000
_ALWAYS_STORED: Final = StepOptions(checkpoint=True)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
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


@checked_call("workflow.wait")
def wait(
    workflows: Sequence[Workflow[Any]], num_returns: int = 1, timeout: float | None = None
) -> Wait[tuple[list[Any], list[Workflow[Any]]]]:
    """Return a workflow that waits for some of several workflows.

    Its value consists of two lists. The first contains the values of the workflows that are ready, the second contains
    the remaining workflows. Both have the order of the given list. What was ready is stored, so that a resumed run goes
    on with the same lists.

    The remaining workflows continue. A step that takes the lists may pass them to a step that it returns, or wait for
    them again. Those that are still running when the whole workflow finishes are stopped.

    Args:
        workflows: the workflows to wait for; no two of them are the same.
        num_returns: how many values the first list contains. It contains fewer after the timeout.
        timeout: seconds after which the wait ends in any case; None for no limit. They begin when the run reaches the
            wait, and continue while no cluster is running.

    Raises:
        WrongTypeError: an argument has the wrong type.
        InvalidInputError: a workflow is given twice, or a number is out of range.

    If one of the workflows fails before the wait ends, the wait fails with its exception.
    """
    given = _checked_workflows(workflows)
    options = WaitOptions(_checked_number(num_returns, len(given)), _checked_timeout(timeout))

    def compose(options_given: Mapping[str, Any]) -> Wait[Any]:
        refused = sorted(set(options_given) - {"metadata", "name"})
        if refused:
            raise InvalidInputError(f"workflow.wait has no option {', '.join(refused)}; it has metadata, name")
        given_options = {"name": "workflow.wait", **options_given}
        return Wait(
            wait,
            given,
            {},
            merged(given_options, _ALWAYS_STORED),
            name_of(given_options),
            StepKind.WAIT,
            wait=options,
            given=options_given,
            compose=compose,
        )

    return compose({})


def remaining_workflow(run_uuid: str, step_id: str) -> Workflow[Any]:
    """Return a workflow that a wait left over.

    Args:
        run_uuid: the run of the wait.
        step_id: the id of the step whose outcome is the value of the workflow.
    """
    return Workflow(wait, (), {}, StepOptions(), step_id, address=StepAddress(run_uuid, step_id))


def _checked_workflows(workflows: Any) -> tuple[Workflow[Any], ...]:
    if not isinstance(workflows, (list, tuple)) or not all(isinstance(each, Workflow) for each in workflows):
        raise WrongTypeError(
            f"workflow.wait takes a list of workflows, not {shown(workflows)}; compose each with .step(...) first"
        )
    if len({each.address or id(each) for each in workflows}) < len(workflows):
        raise InvalidInputError("workflow.wait takes each workflow once; compose a second one for a second value")
    return tuple(workflows)


def _checked_number(num_returns: Any, given: int) -> int:
    if not isinstance(num_returns, int) or isinstance(num_returns, bool):
        raise WrongTypeError(f"num_returns of workflow.wait must be a whole number, not {shown(num_returns)}")
    if given and not 1 <= num_returns <= given:
        raise InvalidInputError(
            f"num_returns={num_returns} of workflow.wait is out of range: {given} workflows are given, so it must be "
            f"from 1 to {given}"
        )
    return num_returns


def _checked_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise WrongTypeError(f"timeout of workflow.wait must be a number of seconds or None, not {shown(timeout)}")
    if not (math.isfinite(timeout) and timeout >= 0):
        raise InvalidInputError(
            f"timeout of workflow.wait must be a finite number of seconds from 0, not {timeout!r}; None means no limit"
        )
    return float(timeout)


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
