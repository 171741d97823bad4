"""Explains why no worker starts: what the options of a step request, and what the cluster has. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

GIB: Final = 2**30

ACCELERATOR: Final = "accelerator_type:"
"""Prefix of the resource that Ray gives to the nodes with an accelerator of a type."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node of a Ray cluster that is alive.

    Attributes:
        node_id: Ray's id of the node.
        resources: the total amount of each resource.
        labels: the labels of the node.
    """

    node_id: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WaitReason:
    """Why steps with some options wait for a worker.

    Attributes:
        text: what they request, what the cluster has, and what ends the wait.
        fits: whether a node of the cluster could execute them.
    """

    text: str
    fits: bool


def demand_of(options: Mapping[str, Any]) -> dict[str, float]:
    """Return the amount of each resource that a worker with these Ray options reserves."""
    demand = {
        "CPU": options.get("num_cpus", 1),
        "GPU": options.get("num_gpus", 0),
        "memory": options.get("memory", 0),
        **options.get("resources", {}),
    }
    if options.get("accelerator_type"):
        demand[f"{ACCELERATOR}{options['accelerator_type']}"] = 0.001
    return {name: amount for name, amount in demand.items() if amount}


def wait_reason(options: Mapping[str, Any], nodes: Sequence[ClusterNode], available: Mapping[str, float]) -> WaitReason:
    """Explain why no worker with these options starts.

    Args:
        options: the Ray options of the steps.
        nodes: the nodes of the cluster.
        available: the free amount of each resource in the whole cluster.
    """
    demand = demand_of(options)
    requested = _listed(demand) or "no resources"
    selector = {**options.get("label_selector", {})} if not options.get("fallback_strategy") else {}
    labels = f" and the labels {selector}" if selector else ""
    named = _named_node(options)
    allowed = [node for node in nodes if named is None or node.node_id == named]
    if named is not None and not allowed:
        return WaitReason(f"it requests node {named}, which is not alive in this cluster", fits=False)
    who = f"node {named}" if named is not None else "the only node of the cluster"
    has_one = named is not None or len(nodes) == 1
    where = f"{who} does not have that" if has_one else "no node of the cluster has that"
    with_labels = [node for node in allowed if all(_matches(node.labels, key, selector[key]) for key in selector)]
    if not any(_holds(node, demand) for node in with_labels):
        most = {name: max((node.resources.get(name, 0.0) for node in allowed), default=0.0) for name in demand}
        has = "that node has" if len(allowed) == 1 else f"the most that one of its {len(allowed)} nodes has is"
        return WaitReason(
            f"it requests {requested}{labels}, and {where}; {has} {_listed(most)}; it waits for a node that fits, for "
            "example from an autoscaler; if none will come, cancel the workflow and run it with other options under "
            "another id",
            fits=False,
        )
    free = {name: available.get(name, 0.0) for name in demand}
    setup = "until its runtime_env is set up, or " if options.get("runtime_env") else ""
    return WaitReason(
        f"it requests {requested}{labels}; {_listed(free) or 'everything'} of the cluster is free now; it waits "
        f"{setup}until other steps, tasks and actors release what it needs",
        fits=True,
    )


def _holds(node: ClusterNode, demand: Mapping[str, float]) -> bool:
    return all(node.resources.get(name, 0.0) >= amount for name, amount in demand.items())


def _named_node(options: Mapping[str, Any]) -> str | None:
    """Return the id of the only node that may execute the steps; None if several may."""
    strategy = options.get("scheduling_strategy")
    is_hard = isinstance(strategy, Mapping) and strategy["kind"] == "node" and not strategy["soft"]
    return str(strategy["node_id"]) if isinstance(strategy, Mapping) and is_hard else None


def _matches(labels: Mapping[str, str], key: str, condition: str) -> bool:
    """Return whether labels match one condition: `value`, `!value`, `in(a,b)` or `!in(a,b)`, as in Ray."""
    wanted = condition.removeprefix("!")
    several = re.fullmatch(r"in\((.*)\)", wanted)
    values = [each.strip() for each in several[1].split(",")] if several is not None else [wanted]
    return (labels.get(key) in values) != condition.startswith("!")


def _listed(amounts: Mapping[str, float]) -> str:
    return ", ".join(_amount(name, amount) for name, amount in amounts.items())


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / GIB:.3g} GiB of memory"
    if name.startswith(ACCELERATOR):
        return f"{'an' if amount else 'no'} accelerator of type {name.removeprefix(ACCELERATOR)}"
    return f"{amount:g} {name}"
