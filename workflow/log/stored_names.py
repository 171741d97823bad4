"""The names that stored pickles refer to. NEVER rename, move or remove anything that is defined here.

A pickle stores the module and the name of each function that it calls to rebuild an object. Functions, arguments,
and values of every run contain such names. `workflow.log.stored_names.<name>` and the meaning of the arguments are
therefore part of the format on disk. Objects of this library that can occur in a user's pickle refer to this module,
or to a public name of one of `PUBLIC_MODULES`.

Modules above this one, and those that need Ray, are imported by name when a pickle needs them. Readers of the log
therefore load none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

PUBLIC_MODULES: Final = frozenset({"workflow", "workflow.errors", "workflow.event_listener", "workflow.model.status"})
"""Modules whose public classes pickles refer to directly: users import from there, so that the names cannot change."""


def mark(kind: str, name: str) -> Any:
    """Return the object that a mark in a pickle represents; see `workflow.log.values.mark`.

    Args:
        kind: `parent` (the outcome of a parent step) or `parent_reference` (a Ray reference to it). `value` is the
            content of a blob, and `object` a Ray reference to it.
        name: the index of the parent, or the name of the blob.
    """
    return import_module("workflow.log.values").resolve_mark(kind, name)


def dataset(blocks: list[Any]) -> Any:
    """Return a Ray Dataset.

    Args:
        blocks: references to its blocks, which are Arrow tables.
    """
    return import_module("ray.data").from_arrow_refs(blocks)


def actor_handle(cluster: str, class_name: str, make: Any, args: tuple[Any, ...]) -> Any:
    """Return the handle of a Ray actor; only functions contain such handles.

    Args:
        cluster: the name of the Ray cluster of the actor.
        class_name: the name of the class of the actor.
        make, args: Ray's function that rebuilds a handle, and its arguments.
    """
    return import_module("workflow.engine.worker.actor_handles").load(cluster, class_name, make, args)


def remaining_workflow(run_uuid: str, step_id: str) -> Any:
    """Return a workflow that `workflow.wait` left over: a step of a run, which other steps of this run may take.

    Args:
        run_uuid: the run.
        step_id: the step.
    """
    return import_module("workflow.waits").remaining_workflow(run_uuid, step_id)


def step_function() -> Any:
    """Return a step without its function; pickle sets its state next, because the function may refer to the step.

    The state is a dict: `function`, `options` (the fields of StepOptions), `name`, and `attributes` (what else the step
    has, for example `__name__` and `__doc__`).
    """
    kind = import_module("workflow.steps").StepFunction
    return kind.__new__(kind)


def poll(listener: Any) -> Any:
    """Return the function of the step that waits for an event.

    Args:
        listener: the class of the event listener.
    """
    return import_module("workflow.event_listener").Poll(listener)


def checkpointed(listener: Any, caught: bool) -> Any:
    """Return the function of the step that runs after the event is stored.

    Args:
        listener: the class of the event listener.
        caught: whether the step before it catches exceptions.
    """
    return import_module("workflow.event_listener").Checkpointed(listener, caught)


def public(name: str) -> Any:
    """Return a public function or class of `workflow`, for example `sleep`, wherever it is defined now."""
    return getattr(import_module("workflow"), name)


def named_class(module: str, qualname: str, make: Any, args: tuple[Any, ...]) -> Any:
    """Return a class by its name, or start to build it from its definition; `define_class` completes it.

    Args:
        module: the module of the class.
        qualname: its qualified name there.
        make: the function of cloudpickle that builds an empty class.
        args: arguments for `make`.
    """
    return import_module("workflow.log.definitions").resolve_class(module, qualname, make, args)


def define_class(found: Any, state: Any) -> Any:
    """Complete a class that `named_class` built.

    Args:
        found: the class.
        state: `(module, qualified name, cloudpickle's id of the class, what cloudpickle sets)`.
    """
    return import_module("workflow.log.definitions").define_class(found, state)


def attribute(module: str, qualname: str) -> Any:
    """Return a step of a module.

    Args:
        module: the module, which is imported.
        qualname: the qualified name of the step.
    """
    definitions = import_module("workflow.log.definitions")
    found = definitions.named(definitions.load_module(module), qualname)
    if found is None:
        raise AttributeError(f"module {module!r} has no {qualname!r}")
    return found


def step_body(module: str, qualname: str) -> Any:
    """Return the function of a step of a module.

    Args:
        module: the module, which is imported.
        qualname: the qualified name of the step.
    """
    return import_module("workflow.log.code_digest").innermost(attribute(module, qualname))


def module_globals(module: str) -> Any:
    """Return the globals of a module, for a function that is defined inside a function of the module.

    Args:
        module: the module, which is imported.
    """
    return vars(import_module("workflow.log.definitions").load_module(module))


def function(*fields: Any) -> Any:
    """Return the function of a step as it is stored.

    Args:
        *fields: the fields of `StoredFunction`, in their order.
    """
    return import_module("workflow.log.stored_function").StoredFunction(*fields)


def loaded(stored: Any) -> Any:
    """Return the function of a step that is inside another value, for example a step that is an argument.

    Args:
        stored: what `function` returned.
    """
    return import_module("workflow.log.values").load_nested(stored)
