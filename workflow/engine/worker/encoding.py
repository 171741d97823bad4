"""Composed steps to a DAG for the log: pickles functions and arguments, gives ids, finds edges. Iterative at any depth.

Called by the driver for a run's own DAG, and by a worker for what a dynamic step returned.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from workflow.engine.worker.functions import module_of
from workflow.engine.worker.refs import OnNode, Packer, Skimmer
from workflow.errors import InvalidInputError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.model import ids
from workflow.model.graph import Graph, StepKind, StepNode, StepSpec, Value

FUNCTIONS_REMEMBERED = 1_000

_stored: OrderedDict[tuple[str, int], tuple[Any, str]] = OrderedDict()
"""(run folder, id of a function) -> the function, which keeps its id taken, and the blob that this process stored."""


class Encoder:
    """Encodes DAGs of one run; a function that this process has stored for the run it does not store again."""

    def __init__(self, blobs: Blobs, folder: str) -> None:
        self._blobs = blobs
        self._folder = folder
        self._kept: dict[bytes, Value] = {}

    def encode(self, root: StepNode, parent: str = "") -> Graph:
        """The DAG that ends in root.

        Args:
            root: the step whose outcome is the DAG's.
            parent: id of the dynamic step that returned it; empty for a run's own.

        Raises:
            Invalid: an argument or a function cannot be stored; the text names the step.
        """
        ordered = self._pack(root)
        # Equal names and equal arguments are one object each: a manager keeps the steps of all its runs in memory.
        names = [sys.intern(str(node.title)) for node, _, _ in ordered]
        step_ids = ids.place(parent, names)
        id_of = {id(node): step_id for (node, _, _), step_id in zip(ordered, step_ids, strict=True)}
        steps = tuple(
            StepSpec(
                step_id=step_id,
                name=name,
                function="" if node.kind is StepKind.SLEEP else self.function(node.function, node.qualname),
                qualname=sys.intern(node.qualname),
                args=args,
                parents=tuple(id_of[id(each)] for each in parents),
                options=node.step_options,
                module="" if node.kind is StepKind.SLEEP else module_of(node.function),
                kind=node.kind,
                seconds=node.seconds,
            )
            for (node, args, parents), step_id, name in zip(ordered, step_ids, names, strict=True)
        )
        return Graph(steps, id_of[id(root)])

    def _pack(self, root: StepNode) -> list[tuple[StepNode, Value, list[StepNode]]]:
        """Each node once, parents first, with its packed arguments and its parents."""
        packed: dict[int, tuple[StepNode, Value, list[StepNode]]] = {}
        ordered: list[tuple[StepNode, Value, list[StepNode]]] = []
        done: set[int] = set()
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            if id(node) not in packed:
                packed[id(node)] = (node, *self._arguments(node))
                waiting = [each for each in reversed(packed[id(node)][2]) if id(each) not in done]
                if waiting:
                    stack += waiting
                    continue
            stack.pop()
            done.add(id(node))
            ordered.append(packed[id(node)])
        return ordered

    def _arguments(self, node: StepNode) -> tuple[Value, list[StepNode]]:
        if node.kind is StepKind.SLEEP:
            return Value(), []
        parents: list[StepNode] = []
        place: dict[int, int] = {}

        def on_node(obj: Any) -> tuple[Any, ...] | None:
            if not isinstance(obj, StepNode):
                return None
            if id(obj) not in place:
                place[id(obj)] = len(parents)
                parents.append(obj)
            return values.mark("parent", str(place[id(obj)]))

        what = f"arguments of step {node.title!r}"
        return self._keep((node.args, dict(node.kwargs)), what, on_node), parents

    def _keep(self, arguments: Any, what: str, on_node: OnNode) -> Value:
        value = self._blobs.store_value(Packer(self._blobs, self._folder, what, on_node).dumps(arguments))
        return value if value.inline is None else self._kept.setdefault(value.inline, value)

    def function(self, function: Callable[..., Any], qualname: str) -> str:
        """Store a step's function.

        Returns:
            The name of its blob.

        Raises:
            Invalid: it cannot be pickled.
        """
        key = (self._folder, id(function))
        known = _stored.get(key)
        if known is None:
            packer = Packer(self._blobs, self._folder, f"function of step {qualname!r}", _refuse_node)
            known = _stored[key] = (function, self._blobs.put(packer.dumps(function)))
            while len(_stored) > FUNCTIONS_REMEMBERED:
                _stored.popitem(last=False)
        return known[1]


class ShapeEncoder(Encoder):
    """Encodes only what makes a DAG's shape, see `Graph.shape`: nothing is stored, no reference is looked behind."""

    def __init__(self) -> None:
        """It is of no run."""

    def _keep(self, arguments: Any, what: str, on_node: OnNode) -> Value:
        Skimmer(what, on_node).dumps(arguments)
        return Value()

    def function(self, function: Callable[..., Any], qualname: str) -> str:
        """Its name says all."""
        return ""


def _refuse_node(obj: Any) -> None:
    if isinstance(obj, StepNode):
        raise InvalidInputError(f"it holds the step {obj.qualname!r} itself; pass the step as an argument instead")
