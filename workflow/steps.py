"""What a user writes: `@workflow.step`, `.options()`, `.step()`, and the lazy `Workflow` that they compose."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, overload

from workflow import api
from workflow.errors import InvalidInputError, WrongTypeError
from workflow.log import stored_names
from workflow.model.graph import StepNode, StepOptions, underlying
from workflow.options import merged, name_of

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Workflow(StepNode, Generic[T]):
    """A workflow that was composed and not run: a step with its arguments, which may be other workflows."""

    def run(self, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> T:
        """Run it, and wait for its value.

        Args:
            workflow_id: its name in the store; a new one is made where None; within a step, one that is the same each
                time the step is executed. One that is used already is not run again: a finished workflow gives its
                stored value, a running one is waited for, a RESUMABLE one goes on.
            metadata: JSON values to keep with the run.

        Returns:
            The value of this step, all steps before it executed exactly once.

        Raises:
            WorkflowConflict: the id is used by another DAG.
            Whatever a step raised, after its tries, where nothing catches it; its cause, a StepFailed, names the step.
        """
        result: T = api.run(self, workflow_id, metadata)
        return result

    def run_async(self, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
        """Run it in the background; the run goes on when this driver exits.

        Returns:
            An ObjectRef for `ray.get`, of the value.
        """
        return api.run_async(self, workflow_id, metadata)


class StepFunction(Generic[T]):
    """A function made a step; `.step(...)` composes, `.options(...)` changes how it is executed."""

    def __init__(self, function: Callable[..., T], options: StepOptions, name: str = "") -> None:
        self.function = function
        self._options = options
        self._name = name
        functools.update_wrapper(self, underlying(function))

    def __reduce__(self) -> tuple[Any, ...]:
        # The function may refer to this very step, so that it is part of the state and not of the arguments.
        own = {"function", "_options", "_name", "_signature"}
        attributes = {name: value for name, value in vars(self).items() if name not in own}
        options = {each.name: getattr(self._options, each.name) for each in dataclasses.fields(StepOptions)}
        state = {"function": self.function, "options": options, "name": self._name, "attributes": attributes}
        return stored_names.step_function, (), state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state["attributes"])
        self.function = state["function"]
        self._options = StepOptions(**state["options"])
        self._name = state["name"]

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        return _signature(self.function)

    def step(self, *args: Any, **kwargs: Any) -> Workflow[T]:
        """Compose: this step with these arguments. Nothing is executed.

        Raises:
            WrongType: the arguments do not fit the function's signature.
        """
        if self._signature is not None:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise WrongTypeError(f"{underlying(self.function).__qualname__}{self._signature}: {error}") from None
        return Workflow(self.function, args, kwargs, self._options, self._name)

    def options(self, **options: Any) -> StepFunction[T]:
        """The same step, executed otherwise.

        Takes what the decorator takes. What is not given, or None, stays; `metadata` and Ray's options are added to
        those of before, option by option.
        """
        return StepFunction(self.function, merged(options, self._options), name_of(options) or self._name)

    def __get__(self, instance: object, owner: type | None = None) -> StepFunction[T]:
        """A step that is a method: `thing.method.step(...)` is executed with a copy of `thing` as its self."""
        if instance is None:
            return self
        return StepFunction(types.MethodType(self.function, instance), self._options, self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = underlying(self.function)
        raise TypeError(
            f"step {function.__qualname__} is not called directly; use "
            f"{function.__name__}.step(...), and .run() on what that returns"
        )


@overload
def step(function: Callable[..., T]) -> StepFunction[T]: ...
@overload
def step(**options: Any) -> Callable[[Callable[..., T]], StepFunction[T]]: ...
def step(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function a workflow step.

    Args:
        function: where used as plain `@step`.
        **options: `max_retries` (tries in all; -1 without end; 1 by default); `catch_exceptions` (the outcome is
            `(value, None)` or `(None, exception)`); `name`; `metadata` (a dict of JSON values); `checkpoint` (False:
            the value is not stored, and the step is executed again where a resumed run still needs it; None: as the
            dynamic step that returned this one, or else True); `allow_inplace` (execute it in the process, and with
            the resources, of the dynamic step that returned it, after that step's expansion is stored); and of Ray's
            own for tasks: num_cpus, num_gpus, resources, memory, accelerator_type, label_selector, fallback_strategy,
            runtime_env, scheduling_strategy, enable_task_events.

    Raises:
        Invalid: an option is unknown or its value does not fit.
    """
    given, name = merged(options, StepOptions()), name_of(options)
    if function is None:
        return lambda decorated: StepFunction(_checked(decorated), given, name)
    return StepFunction(_checked(function), given, name)


def _checked(function: Any) -> Callable[..., Any]:
    if isinstance(function, StepFunction):
        name = underlying(function.function).__qualname__
        raise InvalidInputError(f"{name} is a step already; change it with .options(...)")
    called = underlying(function) if callable(function) else function
    if not callable(called) or not hasattr(called, "__module__"):  # the calls of C's objects belong to no module
        raise InvalidInputError(
            f"@workflow.step is for functions, not for a {type(function).__name__}; wrap it in a function"
        )
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise InvalidInputError(
            f"step {called.__qualname__} is a generator function, and what a step yields bit by bit cannot be stored "
            "as its one value; return a list, or give each part a step of its own"
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow Any


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """None where a function, of C say, tells nothing of its arguments."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None
