"""The options of a step, as a user gives them: which are ours, which go on to Ray, which are refused and why.

Called by `steps` for the decorator and for `.options()`. What goes on to Ray is kept in the log as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

import ray

from workflow.engine import strategies
from workflow.errors import InvalidInputError
from workflow.model.graph import StepOptions, metadata_text

OURS: Final = ("allow_inplace", "catch_exceptions", "checkpoint", "max_retries", "metadata", "name")

RAYS: Final = (
    "_labels",
    "accelerator_type",
    "enable_task_events",
    "fallback_strategy",
    "label_selector",
    "memory",
    "num_cpus",
    "num_gpus",
    "resources",
    "runtime_env",
    "scheduling_strategy",
)
"""Options of `ray.remote` that a step's worker is asked for with."""

_BY_STRATEGY: Final = "give scheduling_strategy=PlacementGroupSchedulingStrategy(...) instead"
_ONE_VALUE: Final = "a step has one value; return a tuple or a list, or give each part a step of its own"

REFUSED: Final[Mapping[str, tuple[Any, str]]] = {
    "_generator_backpressure_num_objects": (None, _ONE_VALUE),
    "_num_objects_per_yield": (1, _ONE_VALUE),
    "max_calls": (
        0,
        "steps share worker processes, which end when there is nothing to do; where a process has to end after a call, "
        "call a Ray task with max_calls from within the step",
    ),
    "num_returns": (1, _ONE_VALUE),
    "object_store_memory": (None, "Ray has it for actors only; give memory instead"),
    "placement_group": ("default", _BY_STRATEGY),
    "placement_group_bundle_index": (-1, _BY_STRATEGY),
    "placement_group_capture_child_tasks": (None, _BY_STRATEGY),
    "retry_exceptions": (
        False,
        "max_retries says how often a step is tried whatever it raises; catch_exceptions=True hands the exception to "
        "the next step, which may decide by its kind",
    ),
}
"""Options of `ray.remote` for tasks that a step cannot have: the value that means nothing, and what to do instead."""


def merged(given: Mapping[str, Any], base: StepOptions) -> StepOptions:
    """The options of a step, changed by those that are given. None means: as before.

    Args:
        given: what a user wrote; `name` is not looked at.
        base: what was before; `metadata` and Ray's options are added to it, the others replaced.

    Raises:
        Invalid: an option is unknown, is refused, or its value does not fit.
    """
    own = {key: given[key] for key in OURS if given.get(key) is not None and key not in ("metadata", "name")}
    metadata = metadata_text({**json.loads(base.metadata), **json.loads(metadata_text(given.get("metadata")))})
    return dataclasses.replace(base, ray=_for_ray(given, base.ray), metadata=metadata, **own)


def name_of(given: Mapping[str, Any]) -> str:
    """The name that was given, or empty; raises Invalid."""
    name = given.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidInputError(f"name must be a text, got {name!r}")
    return name or ""


def _for_ray(given: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(base)
    for key, value in given.items():
        if key in REFUSED:
            nothing, instead = REFUSED[key]
            if value is not None and value != nothing:
                raise InvalidInputError(f"a step cannot have {key}={value!r}: {instead}")
        elif key in RAYS:
            options.pop(key, None)
            if value is not None:
                options[key] = _as_json(key, value)
        elif key not in OURS:
            raise InvalidInputError(f"unknown step option {key}; known are {', '.join((*OURS, *RAYS))}")
    _ask_ray({key: value for key, value in given.items() if key in RAYS and value is not None})
    return options


def _ask_ray(options: Mapping[str, Any]) -> None:
    """What Ray would refuse when the step is executed it refuses here, where it is written."""
    if options:
        try:
            ray.remote(**options)(_ask_ray)
        except (TypeError, ValueError) as error:
            told = ", ".join(f"{key}={value!r}" for key, value in options.items())
            raise InvalidInputError(f"Ray does not take {told}: {error}") from error


def _as_json(key: str, value: Any) -> Any:
    if key == "scheduling_strategy":
        return strategies.encode(value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"option {key} must be of JSON values, since it is kept with the workflow: {error}"
        ) from error
