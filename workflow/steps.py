"""What a user writes: `@workflow.step`, `.options()` and `.step()`, and the lazy `Workflow` that they compose."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

import ray

from workflow import api
from workflow.engine.worker import arguments, closures
from workflow.errors import InvalidInputError, WrongTypeError
from workflow.log import stored_names
from workflow.model.calls import checked_call, kind_of, shown
from workflow.model.graph import StepNode, StepOptions, TakenValue, qualname_of, title_of, underlying
from workflow.model.signatures import ANYTHING, only_pretends, signature_of, without_annotations
from workflow.options import merged, name_of

T = TypeVar("T")

_INSTEAD_OF_WORKFLOW_ATTRIBUTES: Final = {
    "options": ": give options before the arguments, as f.options(...).step(...)",
    "step": ": it has its arguments already; run it, or pass it to another step",
    "remote": ": call run_async() for an ObjectRef of its value",
    "execute": ": call run()",
    **dict.fromkeys(("ref", "result", "executed", "step_id", "value"), ": nothing is executed before run() is called"),
}
"""Attributes that users of Ray may expect of a composed workflow, and what to do instead."""

_INSTEAD_OF_STEP_ATTRIBUTES: Final = {
    **dict.fromkeys(("run", "run_async"), ": give it its arguments first, as {0}.step(...).run()"),
    **dict.fromkeys(("remote", "bind"), ": call {0}.step(...), then .run() on the result"),
}
"""Attributes that users of Ray may expect of a step, and what to do instead."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Workflow(StepNode, Generic[T]):
    """A composed workflow that was not run: a step with its arguments, which may be other workflows."""

    def __reduce__(self) -> Any:
        if self.address is not None:
            return stored_names.remaining_workflow, (self.address.run_uuid, self.address.step_id)
        return super().__reduce__()

    @checked_call("Workflow.run")
    def run(self, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> T:
        """Run the workflow, wait for it, and return its value.

        A used id continues the workflow that it names. If that workflow is SUCCESSFUL, its stored value is returned. If
        it is RUNNING, this call waits for it. If it is RESUMABLE or FAILED, this call resumes it, and committed steps
        do not run again.

        Args:
            workflow_id: the id of the workflow in the store. If None, a new id is generated. Within a step, the
                generated id is the same each time the step is executed.
            metadata: JSON values to store with the run.

        Returns:
            The value of this step. The outcome of every step is stored at most once.

        Raises:
            WrongTypeError, InvalidInputError: the id is not a string or not possible, or the metadata is not JSON.
            WorkflowConflictError: the id is used by another DAG.
            WorkflowCancellationError: the workflow under this id was canceled.
            Exception: what a step raised in its last attempt, if no step catches it. Its cause is a StepFailedError,
                which names the step.
        """
        result: T = api.run(self, workflow_id, metadata)
        return result

    @checked_call("Workflow.run_async")
    def run_async(self, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
        """Run the workflow in the background. The run continues after this driver exits.

        The arguments and errors are those of `run`. What a step raised is raised by `ray.get`.

        Returns:
            An ObjectRef of the value, for `ray.get`.
        """
        return api.run_async(self, workflow_id, metadata)

    if not TYPE_CHECKING:  # for type checkers, a workflow has no other attributes

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"a {type(self).__name__} has no attribute {name!r}{_INSTEAD_OF_WORKFLOW_ATTRIBUTES.get(name, '')}"
            )


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
            WrongTypeError: the arguments do not match the signature of the function, or one is `.step` of another step.
            InvalidInputError: an argument cannot be stored.
        """
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise WrongTypeError(f"cannot compose step {self._call()}: {error}{self._advice()}") from None
        for value in (*args, *kwargs.values()):
            if type(value) is types.MethodType and value.__func__ is StepFunction.step:
                other: Any = value.__self__
                name = underlying(other.function).__name__
                raise WrongTypeError(
                    f"cannot compose step {self._call()}: {name}.step is not called; write {name}.step(...)"
                )
        taken = None
        if not arguments.are_immutable(args, kwargs):
            title = title_of(self.function, self._name)
            taken = arguments.take_arguments(args, kwargs, title, self._signature)
            args, kwargs = (), {}
        function = self._take_function()
        return Workflow(self.function, args, kwargs, self._options, self._name, taken=taken, taken_function=function)

    def _call(self) -> str:
        return f"{underlying(self.function).__qualname__}{without_annotations(self._signature)}"

    def _advice(self) -> str:
        """Return what to do if a method is called as a step of its class, so that its first argument is missing."""
        qualname = underlying(self.function).__qualname__
        owner = qualname.rpartition(".")[0].rpartition(".")[2]
        if next(iter(self._signature.parameters), "") != "self" or not owner.isidentifier():
            return ""
        return f"; it is a method, so call it on an object: {owner}(...).{qualname.rpartition('.')[2]}.step(...)"

    def _take_function(self) -> TakenValue | None:
        if not closures.depends_on_values(self.function):
            return None
        taken, self._last_taken = closures.take_function(self.function, qualname_of(self.function), self._last_taken)
        return taken

    @checked_call(".options", "give options by name, for example .options(max_retries=3)")
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

    if not TYPE_CHECKING:  # for type checkers, a step has no other attributes

        def __getattr__(self, name: str) -> Any:
            function = vars(self).get("function")  # none while it is unpickled
            called = underlying(function).__name__ if function is not None else ""
            raise AttributeError(
                f"step {called!r} has no attribute {name!r}{_INSTEAD_OF_STEP_ATTRIBUTES.get(name, '').format(called)}"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = underlying(self.function)
        raise WrongTypeError(
            f"cannot call step {function.__qualname__} directly: call {function.__name__}.step(...), then .run() on "
            "the result"
        )


@overload
def step(function: Callable[..., T]) -> StepFunction[T]: ...
@overload
def step(**options: Any) -> Callable[[Callable[..., T]], StepFunction[T]]: ...
def step(*function: Callable[..., Any], **options: Any) -> Any:
    """Make a function a workflow step. Use it as `@workflow.step` or `@workflow.step(max_retries=3)`.

    A step is not called directly: `f.step(...)` composes it with arguments, and `.run()` of the result executes it.

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

    Returns:
        The step, or a decorator that makes it if only options are given.

    Raises:
        InvalidInputError: an option is unknown, or its value is invalid.
        WrongTypeError: what is decorated is not a function.
    """
    given, name = merged(options, StepOptions()), name_of(options)
    if not function:
        return lambda decorated: StepFunction(_checked(decorated), given, name)
    if len(function) > 1:
        raise WrongTypeError(
            f"@workflow.step takes one function, got {shown(function)}; give options by name, for example "
            "@workflow.step(max_retries=3)"
        )
    return StepFunction(_checked(function[0]), given, name)


def _checked(function: Any) -> Callable[..., Any]:
    if isinstance(function, StepFunction):
        name = underlying(function.function).__qualname__
        raise InvalidInputError(f"{name} is a step already; change its options with .options(...)")
    _refuse_ray_object(function)
    called = underlying(function) if callable(function) else function
    if not callable(called) or not hasattr(called, "__module__"):  # methods of objects written in C have no module
        advice = "write it above the `def` of a function that does what the step is to do"
        if isinstance(function, StepNode):
            advice = "it is composed already, so run it, or pass it to another step"
        what = kind_of(function) if function is None else f"{kind_of(function)} ({shown(function)})"
        raise WrongTypeError(f"@workflow.step takes a function, not {what}; {advice}")
    is_generator = inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)
    if is_generator and not only_pretends(called):
        raise InvalidInputError(
            f"{called.__qualname__} cannot be a step: it is a generator function, and a step has one value; return a "
            "list, or give each part a step of its own"
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow Any


def _refuse_ray_object(given: Any) -> None:
    """Refuse what `@ray.remote` returns, which Ray does not execute if it is called."""
    if isinstance(given, ray.remote_function.RemoteFunction):
        name = given._function_name.rpartition(".")[2]
        raise WrongTypeError(
            f"{name} cannot be a step: it is a Ray remote function; write @workflow.step above its `def` instead of "
            f"@ray.remote, or write a step that returns {name}.remote(...)"
        )
    if isinstance(given, ray.actor.ActorClass):
        name = given.__ray_metadata__.class_name
        raise WrongTypeError(
            f"{name} cannot be a step: it is a Ray actor class; decorate functions with @workflow.step, and create the "
            "actor within a step"
        )
    if isinstance(given, (ray.actor.ActorMethod, ray.actor.ActorHandle)):
        raise WrongTypeError(
            f"{shown(given)} cannot be a step: it belongs to a Ray actor, which does not survive its cluster; write a "
            "step that finds or creates the actor, and returns what its method's .remote(...) returns"
        )


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
