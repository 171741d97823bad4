"""What a user writes: `@workflow.step`, `.options()` and `.step()`, and the lazy `Workflow` that they compose."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, overload

from workflow import api
from workflow.engine.worker import arguments, closures
from workflow.errors import InvalidInputError, WrongTypeError
from workflow.log import stored_names
from workflow.model.graph import StepNode, StepOptions, TakenValue, qualname_of, title_of, underlying
from workflow.model.signatures import ANYTHING, only_pretends, signature_of
from workflow.options import merged, name_of

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Workflow(StepNode, Generic[T]):
    """A composed workflow that was not run: a step with its arguments, which may be other workflows."""

    def run(self, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> T:
        """Run the workflow, wait for it, and return its value.

        A used id is not run again. If the workflow under this id is SUCCESSFUL, its stored value is returned. If it is
        FAILED, its stored error is raised. If it is RUNNING, this call waits for it, and if it is RESUMABLE, this call
        resumes it.

        Args:
            workflow_id: the id of the workflow in the store. If None, a new id is generated. Within a step, the
                generated id is the same each time the step is executed.
            metadata: JSON values to store with the run.

        Returns:
            The value of this step. The outcome of every step is stored at most once.

        Raises:
            WorkflowConflictError: the id is used by another DAG.
            Exception: what a step raised in its last attempt, if no step catches it. Its cause is a StepFailedError,
                which names the step.
        """
        result: T = api.run(self, workflow_id, metadata)
        return result

    def run_async(self, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
        """Run the workflow in the background. The run continues after this driver exits.

        Returns:
            An ObjectRef of the value, for `ray.get`.
        """
        return api.run_async(self, workflow_id, metadata)


class StepFunction(Generic[T]):
    """A function that was made a step. `.step(...)` composes it, and `.options(...)` changes how it is executed."""

    def __init__(self, function: Callable[..., T], options: StepOptions, name: str = "") -> None:
        self.function = function
        self._options = options
        self._name = name
        self._last_taken: closures.LastTaken | None = None
        self._adopt_attributes(underlying(function))

    def _adopt_attributes(self, function: Callable[..., Any]) -> None:
        """Take over the name, the documentation and the attributes of the function, as `functools.update_wrapper`.

        An attribute of the function with the name of an own one is left out: `function.options` is not `self.options`.
        """
        found = {name: _attribute(function, name) for name in functools.WRAPPER_ASSIGNMENTS}
        attributes = _attribute(function, "__dict__")
        found |= attributes if isinstance(attributes, Mapping) else {}
        taken = _names_of_steps()
        vars(self).update((name, value) for name, value in found.items() if name not in taken and value is not _MISSING)
        self.__wrapped__ = function

    def __reduce__(self) -> tuple[Any, ...]:
        # The function may refer to this very step, so that it is part of the state and not of the arguments.
        own = {"function", "_options", "_name", "_signature", "_last_taken"}
        attributes = {name: value for name, value in vars(self).items() if name not in own}
        options = {each.name: getattr(self._options, each.name) for each in dataclasses.fields(StepOptions)}
        state = {"function": self.function, "options": options, "name": self._name, "attributes": attributes}
        return stored_names.step_function, (), state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state["attributes"])
        self.function = state["function"]
        self._options = StepOptions(**state["options"])
        self._name = state["name"]
        self._last_taken = None

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        try:
            return signature_of(self.function)
        except ValueError:  # as some functions written in C
            return ANYTHING

    def step(self, /, *args: Any, **kwargs: Any) -> Workflow[T]:
        """Compose this step with arguments. Nothing is executed.

        The step gets its arguments as they are now, even if they change before it is executed. A buffer of 1 MiB or
        more, for example of an array, is not copied. It must not change before `run` or `run_async` has stored it.

        Raises:
            WrongTypeError: the arguments do not match the signature of the function.
            InvalidInputError: an argument cannot be stored.
        """
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise WrongTypeError(f"{underlying(self.function).__qualname__}{self._signature}: {error}") from None
        taken = None
        if not arguments.are_immutable(args, kwargs):
            title = title_of(self.function, self._name)
            taken = arguments.take_arguments(args, kwargs, title, self._signature)
            args, kwargs = (), {}
        function = self._take_function()
        return Workflow(self.function, args, kwargs, self._options, self._name, taken=taken, taken_function=function)

    def _take_function(self) -> TakenValue | None:
        if not closures.depends_on_values(self.function):
            return None
        taken, self._last_taken = closures.take_function(self.function, qualname_of(self.function), self._last_taken)
        return taken

    def options(self, **options: Any) -> StepFunction[T]:
        """Return a copy of this step with other options.

        Takes the options of the decorator. An option that is left out keeps its value. None also keeps the value of an
        option of this library, but returns an option of Ray to its default. New `metadata` is merged with the old.
        """
        return StepFunction(self.function, merged(options, self._options), name_of(options) or self._name)

    def __get__(self, instance: object, owner: type | None = None) -> StepFunction[T]:
        """Make methods work as steps: `thing.method.step(...)` is executed with a copy of `thing` as `self`.

        As in a class without steps, static methods, partials and functions written in C do not get `thing`.
        """
        is_method = hasattr(type(self.function), "__get__") and not isinstance(self.function, staticmethod)
        if instance is None or not is_method:
            return self
        return StepFunction(types.MethodType(self.function, instance), self._options, self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = underlying(self.function)
        raise TypeError(
            f"cannot call step {function.__qualname__} directly: call {function.__name__}.step(...), then .run() on "
            "the result"
        )


@overload
def step(function: Callable[..., T]) -> StepFunction[T]: ...
@overload
def step(**options: Any) -> Callable[[Callable[..., T]], StepFunction[T]]: ...
def step(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function a workflow step. Use it as `@step` or `@step(option=...)`.

    Args:
        function: the function, if the decorator is used without options.
        **options: options of this library and of Ray.
            `max_retries` is the maximum number of attempts. The default is 1, and -1 means no limit.
            `catch_exceptions=True` makes the outcome `(value, None)` or `(None, exception)`.
            `name` is a name for the step.
            `metadata` is a dict of JSON values that is stored with the step.
            `checkpoint=False` means that the value is not stored. The step is executed again if a resumed run still
            needs its value. With None, the option of the dynamic step that returned this step applies, or else True.
            `allow_inplace=True` means that the step is executed in the worker process, and with the resources, of the
            dynamic step that returned it.
            The options of Ray tasks are num_cpus, num_gpus, resources, memory, accelerator_type, label_selector,
            fallback_strategy, runtime_env, scheduling_strategy and enable_task_events.

    Raises:
        InvalidInputError: an option is unknown, or its value is invalid.
    """
    given, name = merged(options, StepOptions()), name_of(options)
    if function is None:
        return lambda decorated: StepFunction(_checked(decorated), given, name)
    return StepFunction(_checked(function), given, name)


def _checked(function: Any) -> Callable[..., Any]:
    if isinstance(function, StepFunction):
        name = underlying(function.function).__qualname__
        raise InvalidInputError(f"{name} is a step already; change its options with .options(...)")
    called = underlying(function) if callable(function) else function
    if not callable(called) or not hasattr(called, "__module__"):  # methods of objects written in C have no module
        raise InvalidInputError(
            f"@workflow.step takes a function, not a {type(function).__name__}; wrap it in a function"
        )
    is_generator = inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)
    if is_generator and not only_pretends(called):
        raise InvalidInputError(
            f"{called.__qualname__} cannot be a step: it is a generator function, and a step has one value; return a "
            "list, or give each part a step of its own"
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow Any


@functools.cache
def _names_of_steps() -> frozenset[str]:
    """Return the names of the attributes that a step has itself, and that its function must not replace."""
    return frozenset(
        {"function", "_options", "_name", "_last_taken", *dir(StepFunction)} - set(functools.WRAPPER_ASSIGNMENTS)
    )


_MISSING: Final = object()


def _attribute(function: Callable[..., Any], name: str) -> Any:
    try:
        return getattr(function, name, _MISSING)
    except Exception:  # noqa: BLE001 - the `__getattr__` of a callable object may raise anything for unknown names
        return _MISSING
