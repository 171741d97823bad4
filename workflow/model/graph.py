"""The DAG of a run: its steps, their options and their edges. Pickles are opaque bytes here."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, Final

from workflow.errors import InvalidInputError

SHOWN_PARENTS: Final = 3
"""Parents that the `repr` of a composed step names."""

MAX_SEARCHED: Final = 1_000
"""Arguments that are searched for these parents."""

_LONGEST_SHOWN: Final = 100
"""Characters of a wrong value that an error shows."""


class StepKind(str, Enum):
    """What a step does."""

    TASK = "TASK"  # a function that a worker executes
    EVENT = "EVENT"  # a coroutine of an event listener, which needs no worker
    SLEEP = "SLEEP"  # a pause, which needs no function and no process
    WAIT = "WAIT"  # waits for some of its parents, which needs no function and no process

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Value:
    """A pickled value: either its bytes, or the blob that contains them.

    Attributes:
        inline: the pickle, if it is small.
        blob: the sha256 of the pickle, if it is stored as a blob.
        size: the length of the pickle, in bytes.
    """

    inline: bytes | None = None
    blob: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How one step is executed.

    Attributes:
        max_retries: the maximal number of attempts; -1 for no limit.
        catch_exceptions: whether the outcome is `(value, None)` or `(None, exception)`.
        checkpoint: whether the value is stored. None inherits the option from the dynamic step that returned this one.
        allow_inplace: whether it runs in the worker process of the dynamic step that returned it.
        ray: options for the Ray task, as JSON values.
        metadata: the user's metadata, as JSON text.
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
                f"max_retries must be a whole number, got {self.max_retries!r}; give the total number of attempts"
            )
        if self.max_retries == 0 or self.max_retries < -1:
            raise InvalidInputError(
                f"max_retries={self.max_retries} allows no attempt; give the total number of attempts (1 or more), "
                "or -1 for no limit"
            )
        for name in ("catch_exceptions", "allow_inplace"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"the option {name} must be True or False, got {getattr(self, name)!r}")
        if self.checkpoint is not None and not isinstance(self.checkpoint, bool):
            raise InvalidInputError(f"the option checkpoint must be True, False or None, got {self.checkpoint!r}")

    def allows_attempt_after(self, failed_attempts: int) -> bool:
        """Return whether another attempt may follow after this number of attempts of this epoch raised."""
        return self.max_retries == -1 or failed_attempts < self.max_retries


def metadata_text(given: Mapping[str, Any] | None) -> str:
    """Return a user's metadata as the JSON text that is stored.

    Raises:
        InvalidInputError: it is not a dict of JSON values.
    """
    if not isinstance(given, (Mapping, type(None))):
        raise InvalidInputError(f"metadata must be a dict of JSON values, got {repr(given)[:_LONGEST_SHOWN]}")
    try:
        return json.dumps(dict(given or {}))
    except (TypeError, ValueError, RecursionError) as error:
        place = next((f"[{key!r}]" for key, value in (given or {}).items() if not _is_json(key, value)), "")
        raise InvalidInputError(
            f"metadata must be a dict of JSON values, and metadata{place} is not one: {error}; use strings, numbers, "
            "booleans, None, lists, and dicts whose keys are strings"
        ) from error


def _is_json(key: Any, value: Any) -> bool:
    try:
        json.dumps({key: value})
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a callable calls: without the partials around it, or the `__call__` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if _has_qualname(function):
        return function
    method: Callable[..., Any] = function.__call__  # type: ignore[operator]  # mypy does not know the `__call__` of a callable
    return method


def _has_qualname(function: object) -> bool:
    try:
        return isinstance(getattr(function, "__qualname__", None), str)
    except Exception:  # noqa: BLE001 - the `__getattr__` of a callable object may raise anything for unknown names
        return False


def qualname_of(function: Callable[..., Any]) -> str:
    """Return the name of a function: `module.qualname`."""
    called = underlying(function)
    return f"{called.__module__}.{called.__qualname__}"


def title_of(function: Callable[..., Any], name: str) -> str:
    """Return the user's name for a step, or the qualified name of its function without `<` and `>`, as in Ray 1.12."""
    return name or qualname_of(function).replace("<", "").replace(">", "")


@dataclass(frozen=True, slots=True)
class WaitOptions:
    """When a WAIT decides which of its parents are ready.

    Attributes:
        num_returns: how many parents are ready at most. The wait decides as soon as so many have their outcomes.
        timeout: the seconds after which it decides in any case; None for no limit.
    """

    num_returns: int = 1
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class StepAddress:
    """A step of a run that exists already."""

    run_uuid: str
    step_id: str


@dataclass(frozen=True, slots=True)
class TakenValue:
    """A value as it was when `.step()` was called. `workflow.engine.worker.taken.Taken` adds its pickle.

    Attributes:
        parents: the composed steps in the value, each once, in the order of their marks.
    """

    parents: tuple[StepNode, ...]


@dataclass(frozen=True, eq=False, repr=False)
class StepNode:
    """A step with its arguments that is not executed yet. Users compose them to DAGs.

    Nodes in the arguments of a step are its parents.

    Attributes:
        function: the user's function. A SLEEP uses only its name.
        args, kwargs: the arguments if they cannot change; empty if `taken` contains them.
        step_options: how the step is executed.
        name: the user's name for the step, or empty for the qualified name of the function.
        kind: what the step does.
        seconds: the duration of a SLEEP.
        taken: the arguments as they were when `.step()` was called; None if they cannot change.
        taken_function: the function as it was then, if it depends on values; else None.
        wait: the options of a WAIT, whose `args` are the steps for which it waits; else None.
        address: the step of a run that this one represents, which a WAIT left over; None for a new step.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    step_options: StepOptions
    name: str = ""
    kind: StepKind = StepKind.TASK
    seconds: float = 0.0
    taken: TakenValue | None = None
    taken_function: TakenValue | None = None
    wait: WaitOptions | None = None
    address: StepAddress | None = None

    @property
    def qualname(self) -> str:
        """The name of the function; see `qualname_of`."""
        return qualname_of(self.function)

    @property
    def title(self) -> str:
        """The name of the step; see `title_of`."""
        return title_of(self.function, self.name)

    def __repr__(self) -> str:
        """Return the name of the step and those of some of its parents. A DAG of any size has a short text."""
        parents = self._parents(SHOWN_PARENTS + 1)
        names = [repr(parent.title) for parent in parents[:SHOWN_PARENTS]]
        names += ["..."] if len(parents) > SHOWN_PARENTS else []
        after = f" after {', '.join(names)}" if names else ""
        return f"<workflow {self.title!r}{after}>"

    def _parents(self, limit: int) -> list[StepNode]:
        """Return the first parents, each once. Only arguments that cannot change are searched: tuples, not lists."""
        if self.taken is not None:
            return list(self.taken.parents[:limit])
        found: dict[int, StepNode] = {}
        pending: list[Any] = [*reversed(list(self.kwargs.values())), *reversed(self.args)]
        for _ in range(MAX_SEARCHED):
            if not pending or len(found) == limit:
                break
            value = pending.pop()
            if isinstance(value, StepNode):
                found.setdefault(id(value), value)
            elif isinstance(value, (tuple, frozenset)):
                pending += reversed(list(islice(value, MAX_SEARCHED)))
        return list(found.values())

    def __copy__(self) -> StepNode:
        """Return the same step, which cannot change. A copy would run a second time."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StepNode:
        """Return the same step; see `__copy__`."""
        return self

    def __reduce__(self) -> str:
        # Pickle calls this only outside a DAG. When a DAG is encoded, the packer replaces each step first.
        raise InvalidInputError(
            f"cannot pickle step {self.title!r}: it is not executed yet, so it has no value; give it to another step "
            "as an argument, return it from a step, or run it first"
        )


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One node of a DAG.

    Attributes:
        step_id: its id, unique in the run.
        name: the user's name for the step, or the qualified name of the function.
        function: the sha256 of the pickled function, which is a blob of the run; empty for a SLEEP.
        qualname: the name of the function: `module.qualname`.
        args: the pickle of `(args, kwargs)`, with marks instead of parents and object references.
        parents: ids of the steps whose outcomes are arguments, each once, in the order of the arguments. They are
            earlier steps of the same DAG, or steps of the run that a WAIT left over.
        options: how the step is executed.
        module: the module in which a later process finds the function by its name, or empty.
        kind: what the step does.
        seconds: the duration of a SLEEP.
        wait: the options of a WAIT; None for all other steps.
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
    wait: WaitOptions | None = None

    @property
    def timer(self) -> float | None:
        """The seconds until its timer ends: the duration of a SLEEP, or the timeout of a WAIT. None without a timer."""
        if self.kind is StepKind.SLEEP:
            return self.seconds
        return self.wait.timeout if self.wait is not None else None


@dataclass(frozen=True, slots=True)
class Graph:
    """A DAG.

    Attributes:
        steps: all steps, parents before their children.
        output: the id of the step whose outcome is the outcome of the DAG.
    """

    steps: tuple[StepSpec, ...]
    output: str

    def shape(self) -> str:
        """Return the text that identifies a DAG: step ids, qualified names and edges, without code and arguments."""
        return json.dumps([self.output, [[step.step_id, step.qualname, list(step.parents)] for step in self.steps]])
