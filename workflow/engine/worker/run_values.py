"""Loads and stores the values of one run: functions, arguments, outcomes, exceptions and DAGs.

Small values are stored in records and large ones as blobs. Each process that handles user values calls this module: a
worker, an event host, and a driver. A manager never does, because it never unpickles a value.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeVar

from workflow.engine.messages import EphemeralValue, RunAddress, StepTask
from workflow.engine.worker import actor_handles, closures, context, transfer
from workflow.engine.worker.caches import SharedCache
from workflow.engine.worker.exceptions import message_of
from workflow.engine.worker.refs import StepReducer, ValuePickler, dereference_argument, mark_resolver
from workflow.engine.worker.taken import Taken
from workflow.errors import InternalError, InvalidInputError
from workflow.log import stored_names, values
from workflow.log.blobs import Blobs
from workflow.log.definitions import Classes, add_to_scope, class_scope
from workflow.log.keys import RunPaths
from workflow.log.pickled import Pickled
from workflow.log.stored_function import StoredFunction
from workflow.model.calls import kind_of
from workflow.model.graph import Graph, StepNode, Value
from workflow.model.state import Outcome
from workflow.store import Store, open_store

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_LOADED_FUNCTIONS: Final = 256
MAX_STORED_FUNCTIONS: Final = 1_000

Inputs = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A step's function, its positional arguments and its keyword arguments."""

_loaded_functions: SharedCache[tuple[str, str], tuple[Any, Classes]] = SharedCache(MAX_LOADED_FUNCTIONS)
"""(run folder, blob) -> the function, and the classes that were built for it."""

_stored_functions: SharedCache[tuple[str, int], tuple[Any, str]] = SharedCache(MAX_STORED_FUNCTIONS)
"""(run folder, id of a function) -> the function and its blob. The reference keeps the id from being reused."""

_warned_of_actors: SharedCache[tuple[str, str], bool] = SharedCache(MAX_STORED_FUNCTIONS)
"""(run folder, function) for which a warning about actors was logged."""


@cache
def shared_store(url: str) -> Store:
    """Return this process's store at an address, opened once. Credentials come from the environment."""
    return open_store(url)


class RunValues:
    """Loads and stores the values of one run. Every method blocks.

    Args:
        store: the store that contains the run.
        paths: the run's keys in the store.
        written_by: versions that pickled the run's values, for error messages.

    Attributes:
        run_uuid: the run.
    """

    def __init__(self, store: Store, paths: RunPaths, written_by: str = "") -> None:
        self._blobs = Blobs(store, paths)
        self._folder = paths.folder
        self.run_uuid = paths.run_uuid
        self._written_by = written_by
        self._resolve_whole = mark_resolver(self._blobs, self._folder, written_by, _refuse_parent)

    @classmethod
    def at(cls, run: RunAddress, written_by: str = "") -> RunValues:
        """Return the values of a run, read from this process's store at the run's address."""
        paths = RunPaths(run.workflow_id, run.run_number, run.run_uuid)
        return cls(shared_store(run.store_url), paths, written_by)

    # --- loading ---

    def load_inputs(self, task: StepTask) -> Inputs:
        """Load the function of a step and its arguments, which contain the outcomes of its parents.

        Raises:
            EphemeralValuesLostError: ephemeral values in the arguments are lost.
            InvalidInputError: something cannot be unpickled here.
            StoreUnavailableError: the store did not answer.
            CorruptLogError: a blob is missing or damaged.
        """
        ephemeral = transfer.fetch(task.ephemeral_inputs)
        with _naming(f"the function of step {task.step_id!r}"):
            function, classes = self._load_function(task.function)
        add_to_scope(classes)

        def parent(index: int) -> Any:
            return self.load_outcome(task.parents[index], ephemeral)

        resolve = mark_resolver(self._blobs, self._folder, self._written_by, parent)
        with _naming(f"the arguments of step {task.step_id!r}"):
            args, kwargs = values.loads(self._blobs.load_value(task.args), resolve, self._written_by)
        return (
            function,
            tuple(map(dereference_argument, args)),
            {name: dereference_argument(value) for name, value in kwargs.items()},
        )

    def load_stored_function(self, blob: str) -> Any:
        """Load a function as it is stored, without choosing its code; see `StoredFunction`."""
        return values.loads(self._blobs.fetch(blob), self._resolve_whole, self._written_by)

    def _load_function(self, blob: str) -> tuple[Any, Classes]:
        """Return a function, and the classes that were built for it: the values that it takes use these classes."""
        key = (self._folder, blob)
        loaded = _loaded_functions.get(key)
        if loaded is None:
            classes: Classes = {}
            with class_scope(classes):
                function = self.load_stored_function(blob)
                if isinstance(function, StoredFunction):
                    chosen = values.load_function(function, self._resolve_whole, self._written_by)
                    function = chosen.function
                    if chosen.notice:
                        logger.warning("%s", chosen.notice)
            loaded = function, classes
            _loaded_functions.put(key, loaded)
        return loaded

    def load_outcome(self, outcome: Outcome, ephemeral: Mapping[str, bytes | Pickled] | None = None) -> Any:
        """Load an outcome: a value, or the tuple that `catch_exceptions` makes of a value or an exception.

        Args:
            ephemeral: pickles of ephemeral values, by the id of the step that returned each.
        """
        if outcome.waited is not None:
            ready = [self.load_outcome(each) for each in outcome.waited.ready]
            remaining = outcome.waited.remaining
            value: Any = ready, [stored_names.remaining_workflow(self.run_uuid, step_id) for step_id in remaining]
        elif outcome.ephemeral_step and ephemeral is not None:
            value = values.loads(ephemeral[outcome.ephemeral_step], self._resolve_whole, self._written_by)
        else:
            value = self.load_value(outcome.value)
        if outcome.caught:
            return None, value
        return (value, None) if outcome.wrapped else value

    def load_value(self, value: Value) -> Any:
        """Load a value or an exception that contains no steps."""
        return values.loads(self._blobs.load_value(value), self._resolve_whole, self._written_by)

    # --- storing ---

    def store_value(self, value: Any, step_id: str) -> Value:
        """Store what a step returned.

        Raises:
            InvalidInputError: it contains something that cannot be stored.
            StoreUnavailableError: the store did not answer.
        """
        return self._blobs.store_value(self._pickle_returned(value, step_id))

    def publish_ephemeral(self, value: Any, step_id: str) -> EphemeralValue:
        """Publish what a step returned, without storing it; raises as `store_value` does."""
        return transfer.publish(self._pickle_returned(value, step_id), context.object_owner())

    def _pickle_returned(self, value: Any, step_id: str) -> bytes | Pickled:
        return self._pickler(f"value returned by step {step_id!r}", _refuse_nested_step).dumps(value)

    def store_exception(self, error: BaseException, step_id: str) -> Value:
        """Store an exception.

        If it cannot be pickled and unpickled, or if the store refuses it as too large, a RuntimeError with its message
        is stored instead.
        """
        pickler = self._pickler(f"exception of step {step_id!r}")
        try:
            data = pickler.dumps(error)
            copy = self._rebuilt(error, data)
            if type(copy) is not type(error):
                raise InvalidInputError(f"it is unpickled as {kind_of(copy)}; correct its __reduce__")
            if not isinstance(error, Exception):
                raise InvalidInputError("it would end or cancel the process that reads it; raise an Exception instead")
            return self._blobs.store_value(data)
        except InvalidInputError as why:
            message = message_of(error)[: values.LONGEST_TEXT // 2]  # short enough that it never becomes a blob
            substitute = RuntimeError(
                f"{type(error).__qualname__}: {message} (the exception itself is not stored: {why})"
            )
            return self._blobs.store_value(pickler.dumps(substitute))

    def _rebuilt(self, error: BaseException, data: bytes | Pickled) -> Any:
        try:
            return values.loads(data, mark_resolver(self._blobs, self._folder, "", _refuse_parent))
        except InvalidInputError as failed:
            raise InvalidInputError(
                f"{type(error).__qualname__} cannot be rebuilt from its pickle: {failed.__cause__!r}; let its __init__ "
                "pass all its arguments to super().__init__, or define __reduce__"
            ) from failed

    def store_arguments(self, arguments: Any, step_name: str, reduce_step: StepReducer) -> Value:
        """Store the arguments of a step.

        Args:
            arguments: the positional and the keyword arguments.
            step_name: name of the step, for error messages.
            reduce_step: replaces the composed steps in the arguments by marks.
        """
        return self._blobs.store_value(self._pickler(f"arguments of step {step_name!r}", reduce_step).dumps(arguments))

    def store_taken_arguments(self, taken: Taken, step_name: str) -> Value:
        """Store arguments that were taken when `.step()` was called.

        Args:
            taken: the arguments.
            step_name: name of the step, for error messages.

        Raises:
            InvalidInputError: a large buffer was changed since then.
        """
        return self._store_taken(taken, f"arguments of step {step_name!r}", self._blobs.store_value)

    def store_taken_function(self, taken: Taken, qualname: str) -> str:
        """Store a function that was taken when `.step()` was called, and return its blob.

        Raises:
            InvalidInputError: a large value in it was changed since then.
        """
        what = f"function of step {qualname!r}"
        closures.check_unchanged(taken, what)
        self._warn_of_actors(what, taken.actors)
        return self._store_taken(taken, what, self._blobs.put)

    def _store_taken(self, taken: Taken, what: str, store: Callable[[bytes | Pickled], T]) -> T:
        pickler = self._pickler(what)
        names = {placeholder: pickler.store_kept(obj) for placeholder, obj in taken.kept.items()}
        try:
            return store(taken.pickled(names))
        except InvalidInputError as error:
            raise taken.changed(what, error) or error from None

    def store_function(self, function: Callable[..., Any], qualname: str, *, again: bool = False) -> str:
        """Store a step's function, unless this process has stored it for this run before.

        Args:
            function: what the step calls.
            qualname: its qualified name, for error messages.
            again: whether to store it even if it was stored before, because what it uses may have changed.

        Returns:
            The name of its blob.

        Raises:
            InvalidInputError: it cannot be pickled.
        """
        key = (self._folder, id(function))
        known = _stored_functions.get(key)
        if known is None or again:
            what = f"function of step {qualname!r}"
            pickler = self._pickler(what, closures.refuse_captured_step, keeps_actors=True)
            known = (function, self._blobs.put(pickler.dumps(pickler.stored_function(function) or function)))
            _stored_functions.put(key, known)
            self._warn_of_actors(what, tuple(sorted(pickler.actors)))
        return known[1]

    def store_graph(self, graph: Graph) -> tuple[Graph | None, str]:
        """Store a DAG.

        Returns:
            The DAG and an empty name if the DAG is small; None and the name of its blob if it is large.
        """
        return self._blobs.store_graph(graph)

    def _warn_of_actors(self, what: str, class_names: tuple[str, ...]) -> None:
        """Log a warning for a function that refers to actors, once for each run in this process."""
        key = (self._folder, what)
        if class_names and not _warned_of_actors.get(key):
            _warned_of_actors.put(key, True)
            logger.warning("%s", actor_handles.warning_of(what, class_names))

    def _pickler(
        self, what: str, reduce_step: StepReducer | None = None, *, keeps_actors: bool = False
    ) -> ValuePickler:
        return ValuePickler(self._blobs, self._folder, what, reduce_step, keeps_actors=keeps_actors)


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Let an error name what cannot be loaded."""
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"cannot load {what}: {error}") from error


def _refuse_parent(index: int) -> Any:
    raise InternalError(
        f"cannot load a stored value: it refers to the outcome of parent {index}, which only arguments may do; please "
        "report this error"
    )


def _refuse_nested_step(obj: Any) -> None:
    if isinstance(obj, StepNode) and obj.address is None:
        raise InvalidInputError(
            f"it contains the composed workflow of step {obj.qualname!r} inside another value; return what .step(...) "
            "returned, or return a step that takes it as an argument"
        )
