"""Ray actor handles in the functions of steps: how they are stored, and in which cluster they can be loaded.

A function may refer to an actor of its cluster, as in plain Ray. Arguments and values may not, because they outlive the
cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from workflow.errors import InvalidInputError
from workflow.log import stored_names


def is_actor(obj: Any) -> bool:
    """Return whether an object is an actor handle."""
    return isinstance(obj, ray.actor.ActorHandle)


def class_name_of(handle: Any) -> str:
    """Return the name of the class of an actor."""
    return str(handle._ray_actor_creation_function_descriptor.class_name)


def reduced(handle: Any) -> tuple[Any, ...]:
    """Return what pickle writes for an actor handle: Ray's own form, with the cluster in which it is valid."""
    make, args = handle.__reduce__()
    return stored_names.actor_handle, (this_cluster(), class_name_of(handle), make, args)


def load(cluster: str, class_name: str, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Return a stored actor handle.

    Args:
        cluster: the cluster of the actor, as `this_cluster` named it there.
        class_name: the name of the class of the actor.
        make, args: Ray's function that rebuilds a handle, and its arguments.

    Raises:
        InvalidInputError: this process belongs to another cluster.
    """
    here = this_cluster()
    if here != cluster:
        raise InvalidInputError(
            f"cannot use the handle of Ray actor {class_name}: the actor was in the Ray cluster {cluster}, this is "
            f"{here or 'no cluster'}, and an actor does not outlive its cluster; create or find the actor inside the "
            "step, for example by its name"
        )
    return make(*args)


def this_cluster() -> str:
    """Return the name that all processes of a Ray cluster have for it; empty if Ray is not initialized here."""
    return str(ray.get_runtime_context().worker.node.session_name) if ray.is_initialized() else ""


def warning_of(what: str, class_names: tuple[str, ...]) -> str:
    """Return the warning for a function that refers to actors.

    Args:
        what: the function, for example `function of step 'x'`.
        class_names: the names of the classes of the actors.
    """
    actors = " and ".join(class_names)
    return (
        f"{what} refers to Ray actor {actors}: an actor does not outlive its cluster, so the step fails if the run is "
        "resumed on another cluster; to avoid this, create or find the actor inside the step, for example by its name"
    )
