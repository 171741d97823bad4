"""The options of a step as a user gives them: those of this library, those of Ray, and refused ones with reasons.

Called by `steps`, for the decorator and for `.options()`. Options for Ray are stored in the log as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workflow.engine import strategies
from workflow.errors import InvalidInputError
from workflow.model.calls import shown, similar
from workflow.model.graph import StepOptions, metadata_text

LIBRARY_OPTIONS: Final = ("allow_inplace", "catch_exceptions", "checkpoint", "max_retries", "metadata", "name")

RAY_OPTIONS: Final = (
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
"""Options of `ray.remote` that are passed on when a worker is requested for the step."""

_ONE_VALUE: Final = "a step has one value; return a tuple or a list, or give each part a step of its own"

REFUSED: Final[Mapping[str, tuple[Any, str]]] = {
    "_generator_backpressure_num_objects": (None, _ONE_VALUE),
    "_num_objects_per_yield": (1, _ONE_VALUE),
    "max_calls": (
        0,
        "only 1 and 0 are possible: with 1, the worker process ends after the step; for another number, call a Ray "
        "task with max_calls from within the step",
    ),
    "num_returns": (1, _ONE_VALUE),
    "object_store_memory": (None, "Ray has this option for actors only; give memory instead"),
    "retry_exceptions": (
        False,
        "max_retries limits the attempts for every exception; with catch_exceptions=True, the next step gets the "
        "exception and can decide by its class",
    ),
}
"""Options of Ray tasks that a step cannot have: Ray's default, which is accepted, and what to do instead."""

ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("concurrency_groups", "get_if_exists", "lifetime", "max_concurrency", "max_restarts", "max_task_retries"),
        "it is an option of Ray actors; create the actor with it within the step",
    ),
    "namespace": "it is an option of Ray actors; pass it to ray.init for the namespace of all steps",
    "task_id": "give name instead",
    "workflow_id": "pass it to .run(workflow_id=...)",
}
"""Options that users may expect of a step, and where they belong."""


PLACEMENT: Final[Mapping[str, Any]] = {
    "placement_group": "default",
    "placement_group_bundle_index": -1,
    "placement_group_capture_child_tasks": None,
}
"""Options of Ray 1.x that are now one scheduling strategy, with their defaults."""


def merged(given: Mapping[str, Any], base: StepOptions) -> StepOptions:
    """Return the options of a step, changed by the given ones.

    With None, an option of this library keeps its value, and an option of Ray returns to Ray's default.

    Args:
        given: the options that the user wrote. `name` is ignored.
        base: the present options. The given metadata is merged with the present one key by key.

    Raises:
        InvalidInputError: an option is unknown or refused, or its value is invalid.
    """
    own = {key: given[key] for key in LIBRARY_OPTIONS if given.get(key) is not None and key not in ("metadata", "name")}
    metadata = metadata_text({**json.loads(base.metadata), **json.loads(metadata_text(given.get("metadata")))})
    return dataclasses.replace(base, ray=_for_ray(given, base.ray), metadata=metadata, **own)


def name_of(given: Mapping[str, Any]) -> str:
    """Return the name among the given options, or an empty string.

    Raises:
        InvalidInputError: the name is not a string.
    """
    name = given.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidInputError(f"the option name must be a string, got {shown(name)}")
    return name or ""


def _for_ray(given: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(base)
    given = _with_strategy(given)
    for key, value in given.items():
        if key == "max_calls" and value in (None, 0, 1):
            options.pop(key, None)
            if value is not None:
                options[key] = int(value)
        elif key in REFUSED:
            default, alternative = REFUSED[key]
            if value is not None and value != default:
                raise InvalidInputError(f"a step cannot have {key}={shown(value)}: {alternative}")
        elif key in RAY_OPTIONS:
            options.pop(key, None)
            if value is not None:
                options[key] = _as_json(key, value)
        elif key not in LIBRARY_OPTIONS:
            raise InvalidInputError(_unknown_option(key))
    _validate_with_ray({key: value for key, value in given.items() if key in RAY_OPTIONS and value is not None})
    return options


def _with_strategy(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options with a scheduling strategy in place of `placement_group` and what belongs to it."""
    placement = {key: given.get(key, default) for key, default in PLACEMENT.items()}
    if not any(key in given for key in PLACEMENT):
        return given
    others = {key: value for key, value in given.items() if key not in PLACEMENT}
    group = placement.pop("placement_group")
    if isinstance(group, PlacementGroup):
        if others.get("scheduling_strategy") is not None:
            raise InvalidInputError("a step cannot have placement_group and scheduling_strategy; give only one of them")
        return {**others, "scheduling_strategy": PlacementGroupSchedulingStrategy(group, **placement)}
    changed = [key for key, value in placement.items() if value not in (None, PLACEMENT[key])]
    if group not in (None, "default") or changed:
        raise InvalidInputError(
            f"a step cannot have {', '.join(changed) or f'placement_group={group!r}'}: give placement_group=..., as "
            "ray.util.placement_group returns it"
        )
    return others


def _unknown_option(key: str) -> str:
    known = (*LIBRARY_OPTIONS, *(each for each in RAY_OPTIONS if not each.startswith("_")))
    if key in ELSEWHERE:
        return f"a step has no option {key}: {ELSEWHERE[key]}"
    return f"unknown step option {key}{similar(key, known)}; known options: {', '.join(known)}"


def _validate_with_ray(options: Mapping[str, Any]) -> None:
    """Let Ray check the options where the user writes them, not only when the step is executed."""
    if options:
        try:
            ray.remote(**options)(_validate_with_ray)
        except (TypeError, ValueError) as error:
            written = ", ".join(f"{key}={shown(value)}" for key, value in options.items())
            raise InvalidInputError(
                f"Ray does not accept {written}: {error}; give a value that ray.remote accepts, too"
            ) from error


def _as_json(key: str, value: Any) -> Any:
    if key == "scheduling_strategy":
        return strategies.encode(value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the option {key} must consist of JSON values, because it is stored with the workflow: {error}; write it "
            "with dicts, lists, strings, numbers, booleans and None"
        ) from error
