"""The shape of a DAG as the log keeps it: which steps, their options, their edges. Pickles are opaque bytes here."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workflow.errors import InvalidInputError


class StepKind(str, Enum):
    """What a step does until it has its outcome."""

    TASK = "TASK"  # a function, executed by a worker of the cluster
    EVENT = "EVENT"  # a coroutine of an event listener, which takes no place in the cluster
    SLEEP = "SLEEP"  # nothing, for some time: no function, no process

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Value:
    """A pickled value: either its bytes, or the blob that holds them.

    Attributes:
        inline: the pickle, where it is small.
        blob: sha256 of the pickle, where it lies under `blobs/`.
        size: bytes of the pickle.
    """

    inline: bytes | None = None
    blob: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How one step is executed.

    Attributes:
        max_retries: tries in all; -1 without end.
        catch_exceptions: the outcome is `(value, None)` or `(None, exception)`.
        checkpoint: whether the value is stored; None: as for the step that returned this one, or else yes.
        allow_inplace: execute it in the worker process of the dynamic step that returned it.
        ray: options for the Ray task, as JSON values.
        metadata: the user's, as JSON text.
    """

    max_retries: int = 1
    catch_exceptions: bool = False
    checkpoint: bool | None = None
    allow_inplace: bool = False
    ray: Mapping[str, Any] = field(default_factory=dict)
    metadata: str = "{}"

    def __post_init__(self) -> None:
        if not isinstance(self.max_retries, int) or isinstance(self.max_retries, bool):
            raise InvalidInputError(
                f"max_retries must be a whole number, got {self.max_retries!r}; 3 means three tries in all"
            )
        if self.max_retries == 0 or self.max_retries < -1:
            raise InvalidInputError(
                f"max_retries={self.max_retries} leaves no try; give the number of tries in all (1 or more), "
                "or -1 to try without end"
            )
        for name in ("catch_exceptions", "allow_inplace"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.checkpoint is not None and not isinstance(self.checkpoint, bool):
            raise InvalidInputError(f"checkpoint must be True, False or None, got {self.checkpoint!r}")

    def may_try_again(self, tries: int) -> bool:
        """Whether another try may follow after `tries` tries of this epoch raised."""
        return self.max_retries == -1 or tries < self.max_retries


def metadata_text(given: Mapping[str, Any] | None) -> str:
    """A user's metadata as the JSON text that is kept; raises Invalid."""
    if not isinstance(given, (Mapping, type(None))):
        raise InvalidInputError(f"metadata must be a dict of JSON values, got {given!r}")
    try:
        return json.dumps(dict(given or {}))
    except TypeError as error:
        raise InvalidInputError(f"metadata must be a dict of JSON values: {error}") from error


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a partial, of a partial, or an object that can be called, calls; any other callable itself."""
    while isinstance(function, functools.partial):
        function = function.func
    if hasattr(function, "__qualname__"):
        return function
    method: Callable[..., Any] = function.__call__  # type: ignore[operator]  # mypy 2 thinks a callable has none
    return method


@dataclass(frozen=True, eq=False)
class StepNode:
    """A step with its arguments, not executed yet: what a user composes. Nodes in the arguments are its parents.

    Attributes:
        function: the user's.
        args, kwargs: as given.
        how: its options.
        name: the user's name for the step, or empty for the function's qualified name.
        kind: what it does.
        seconds: how long it sleeps, where it is a SLEEP; its function then only tells its name.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    step_options: StepOptions
    name: str = ""
    kind: StepKind = StepKind.TASK
    seconds: float = 0.0

    @property
    def qualname(self) -> str:
        """`module.qualname` of the function."""
        function = underlying(self.function)
        return f"{function.__module__}.{function.__qualname__}"

    @property
    def title(self) -> str:
        """The user's name for it; else the qualified name, without brackets, as Ray 1.12 called a step."""
        return self.name or self.qualname.replace("<", "").replace(">", "")

    def __reduce__(self) -> str:
        # Where a DAG is encoded, the packer replaces steps before pickle comes to ask them.
        raise InvalidInputError(
            f"step {self.title!r} is not executed yet, so it is no value that could be carried elsewhere or kept in an "
            "object of Ray; give it to another step as an argument, return it from a step, or run it first"
        )


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One node of a DAG.

    Attributes:
        step_id: unique in the run.
        name: the user's name for it, or the function's qualified name.
        function: sha256 of the pickled function, a blob of the run; empty where it is a SLEEP.
        qualname: `module.qualname` of the function.
        args: pickle of `(args, kwargs)`, parents and object references replaced by marks.
        parents: ids of the steps whose outcomes stand in args, each once, in order of appearance.
        options: how to execute it.
        module: of the function, where a later process finds the step there by its name; else empty.
        kind: what it does.
        seconds: how long it sleeps, where it is a SLEEP.
    """

    step_id: str
    name: str
    function: str
    qualname: str
    args: Value
    parents: tuple[str, ...] = ()
    options: StepOptions = StepOptions()
    module: str = ""
    kind: StepKind = StepKind.TASK
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Graph:
    """A DAG: its steps in an order in which parents come first, and the one whose outcome is the DAG's."""

    steps: tuple[StepSpec, ...]
    output: str

    def shape(self) -> str:
        """What makes it "the same DAG" under a used id: step ids, qualified names, edges; never code or arguments."""
        return json.dumps([self.output, [[s.step_id, s.qualname, list(s.parents)] for s in self.steps]])
