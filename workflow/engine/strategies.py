"""Encodes Ray's scheduling strategies as JSON and decodes them, so that the log is readable without Ray.

`options` encodes a strategy when a step is decorated. `ray_runner` decodes it when it requests a worker. A run may be
resumed on another cluster, in which the node or placement group of a strategy does not exist.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util import scheduling_strategies as s
from ray.util.placement_group import PlacementGroup, placement_group_table

from workflow.errors import InvalidInputError
from workflow.model.calls import shown

_NAMES = ("DEFAULT", "SPREAD")
_PRIVATE = ("_spill_on_unavailable", "_fail_on_unavailable")


def encode(strategy: Any) -> Any:
    """Return a strategy as a JSON value.

    Args:
        strategy: "DEFAULT", "SPREAD", or one of Ray's strategies for nodes, labels and placement groups.

    Raises:
        InvalidInputError: it is none of these.
    """
    if isinstance(strategy, str) and strategy in _NAMES:
        return strategy
    if isinstance(strategy, s.NodeAffinitySchedulingStrategy):
        extra = {name: True for name in _PRIVATE if getattr(strategy, name)}
        return {"kind": "node", "node_id": strategy.node_id, "soft": strategy.soft, **extra}
    if isinstance(strategy, s.NodeLabelSchedulingStrategy):
        return {"kind": "labels", "hard": _terms(strategy.hard), "soft": _terms(strategy.soft)}
    if isinstance(strategy, s.PlacementGroupSchedulingStrategy):
        group = strategy.placement_group
        return {
            "kind": "placement_group",
            "id": group.id.hex() if group is not None else "",
            "bundle": strategy.placement_group_bundle_index,
            "capture": strategy.placement_group_capture_child_tasks,
        }
    raise InvalidInputError(
        'scheduling_strategy must be "DEFAULT", "SPREAD" or one of ray.util.scheduling_strategies, got '
        f"{shown(strategy)}"
    )


def decode(data: Any) -> Any:
    """Return the strategy that `encode` returned as JSON.

    Raises:
        InvalidInputError: the strategy names a placement group that this cluster does not have.
    """
    if isinstance(data, str):
        return data
    if data["kind"] == "node":
        extra = {name: True for name in _PRIVATE if data.get(name)}
        return s.NodeAffinitySchedulingStrategy(data["node_id"], data["soft"], **extra)
    if data["kind"] == "labels":
        return s.NodeLabelSchedulingStrategy(_expressions(data["hard"]), soft=_expressions(data["soft"]))
    group = _group(data["id"]) if data["id"] else None
    return s.PlacementGroupSchedulingStrategy(group, data["bundle"], data["capture"])


def _group(group_id: str) -> PlacementGroup:
    group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id)))
    # Without this check, a task for an unknown group would stay pending in Ray.
    if placement_group_table(group).get("state", "REMOVED") == "REMOVED":
        raise InvalidInputError(
            f"this cluster has no placement group {group_id}: a placement group ends with its cluster, and with the "
            "job that created it unless it is detached; run the workflow under another id with options that fit, or "
            "request resources or labels instead"
        )
    return group


def _terms(expressions: Any) -> dict[str, list[Any]]:
    return {
        expression.key: [type(expression.operator).__name__, *getattr(expression.operator, "values", [])]
        for expression in expressions or []
    }


def _expressions(terms: dict[str, list[Any]]) -> dict[str, Any]:
    return {key: getattr(s, name)(*values) for key, (name, *values) in terms.items()}
