"""Encodes composed steps as a DAG for the log: stores functions and arguments, assigns step ids, finds edges.

A driver encodes the DAG of a run, and a worker encodes the DAG that a dynamic step returned. The encoder is iterative,
so that a DAG may have any depth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from workflow.engine.worker.arguments import ParentMarks
from workflow.engine.worker.functions import module_of
from workflow.engine.worker.refs import StepFinder, StepReducer
from workflow.engine.worker.run_values import RunValues
from workflow.engine.worker.taken import Taken
from workflow.errors import InvalidInputError
from workflow.model import ids
from workflow.model.graph import Graph, StepKind, StepNode, StepSpec, Value

_WITHOUT_FUNCTION: Final = (StepKind.SLEEP, StepKind.WAIT)


class Encoder:
    """Encodes DAGs of one run.

    Args:
        run_values: stores functions and arguments.
    """

    def __init__(self, run_values: RunValues) -> None:
        self._run_uuid = run_values.run_uuid
        self._values = run_values
        self._inline: dict[bytes, Value] = {}
        self._functions: dict[int | str, str] = {}

    def encode(self, root: StepNode, parent: str = "") -> Graph:
        """Return the DAG that ends in a step.

        Args:
            root: the step whose outcome is the output of the DAG.
            parent: id of the dynamic step that returned the DAG; empty for the DAG of a run.

        Raises:
            InvalidInputError: an argument or a function cannot be stored. The message names the step.
        """
        if root.address is not None:
            raise InvalidInputError(
                f"cannot return or run {root.title!r}, which workflow.wait left over: it is executed already; pass it "
                "to a step, and return that step"
            )
        ordered = self._parents_first(root)
        # Equal names and equal arguments share one object: a manager keeps the steps of all its runs in memory.
        names = [sys.intern(str(node.title)) for node, _, _ in ordered]
        id_of = _ids(parent, root, {id(node): parents for node, _, parents in ordered})
        steps = tuple(
            StepSpec(
                step_id=id_of[id(node)],
                name=name,
                function="" if node.kind in _WITHOUT_FUNCTION else self._function_of(node),
                qualname=sys.intern(node.qualname),
                args=args,
                parents=tuple(each.address.step_id if each.address else id_of[id(each)] for each in parents),
                options=node.step_options,
                module="" if node.kind in _WITHOUT_FUNCTION else module_of(node.function),
                kind=node.kind,
                seconds=node.seconds,
                wait=node.wait,
            )
            for (node, args, parents), name in zip(ordered, names, strict=True)
        )
        return Graph(steps, id_of[id(root)])

    def _parents_first(self, root: StepNode) -> list[tuple[StepNode, Value, list[StepNode]]]:
        """Return each step once, after its parents, with its stored arguments and its parents."""
        encoded: dict[int, tuple[StepNode, Value, list[StepNode]]] = {}
        ordered: list[tuple[StepNode, Value, list[StepNode]]] = []
        done: set[int] = set()
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            if id(node) not in encoded:
                encoded[id(node)] = (node, *self._encode_arguments(node))
                parents = [each for each in reversed(encoded[id(node)][2]) if not self._exists(each, node)]
                pending = [each for each in parents if id(each) not in done]
                if pending:
                    stack += pending
                    continue
            stack.pop()
            done.add(id(node))
            ordered.append(encoded[id(node)])
        return ordered

    def _exists(self, parent: StepNode, node: StepNode) -> bool:
        """Return whether a parent is a step that a wait of this run left over."""
        if parent.address is None:
            return False
        if parent.address.run_uuid != self._run_uuid:
            raise InvalidInputError(
                f"step {node.title!r} takes {parent.title!r}, which workflow.wait left over in another run: such a "
                "workflow is not executed outside of its run; use it in a step that takes the result of workflow.wait"
            )
        return True

    def _encode_arguments(self, node: StepNode) -> tuple[Value, list[StepNode]]:
        """Return the stored arguments of a step, and its parents in the order of their marks."""
        if node.kind is StepKind.SLEEP:
            return Value(), []
        if node.kind is StepKind.WAIT:
            return Value(), list(node.args)
        if isinstance(node.taken, Taken):
            return self._store_taken_arguments(node, node.taken), list(node.taken.parents)
        marks = ParentMarks()
        return self._store_arguments(node, marks), marks.parents

    def _store_taken_arguments(self, node: StepNode, taken: Taken) -> Value:
        return self._shared(self._values.store_taken_arguments(taken, node.title))

    def _store_arguments(self, node: StepNode, reduce_step: StepReducer) -> Value:
        return self._shared(self._values.store_arguments((node.args, dict(node.kwargs)), node.title, reduce_step))

    def _shared(self, value: Value) -> Value:
        return value if value.inline is None else self._inline.setdefault(value.inline, value)

    def _function_of(self, node: StepNode) -> str:
        if not isinstance(node.taken_function, Taken):
            return self._store_function(node.function, node.qualname)
        return self._store_taken_function(node.taken_function, node.qualname)

    def _store_taken_function(self, taken: Taken, qualname: str) -> str:
        # Values that were captured are checked for each `taken`. Steps refer to it, so that its id is not reused.
        key = id(taken) if taken.captured else taken.sha256
        if key not in self._functions:
            self._functions[key] = self._values.store_taken_function(taken, qualname)
        return self._functions[key]

    def _store_function(self, function: Callable[..., Any], qualname: str) -> str:
        return self._values.store_function(function, qualname)


def _ids(parent: str, root: StepNode, parents_of: dict[int, list[StepNode]]) -> dict[int, str]:
    """Return the step id of each node by the node's `id()`. Equal names are numbered from the root, breadth first.

    This is the order of Ray 1.12, so that `get_output(id, name="load_1")` of old code means the same step.
    """
    found = [root]
    seen = {id(root)}
    for node in found:  # the list grows
        for each in parents_of[id(node)]:
            if each.address is None and id(each) not in seen:
                seen.add(id(each))
                found.append(each)
    step_ids = ids.place(parent, [node.title for node in found])
    return {id(node): step_id for node, step_id in zip(found, step_ids, strict=True)}


class ShapeEncoder(Encoder):
    """Encodes only the shape of a DAG; see `Graph.shape`. Stores nothing, and fetches no content of references."""

    def __init__(self) -> None:
        """A shape belongs to no run, so there is no place to store values."""
        self._run_uuid = ""

    def _store_taken_arguments(self, node: StepNode, taken: Taken) -> Value:
        """Taken arguments name their parents, so that nothing is pickled or unpickled."""
        return Value()

    def _store_taken_function(self, taken: Taken, qualname: str) -> str:
        """A shape contains no code; see `_store_function`."""
        return ""

    def _store_arguments(self, node: StepNode, reduce_step: StepReducer) -> Value:
        StepFinder(f"arguments of step {node.title!r}", reduce_step).dumps((node.args, dict(node.kwargs)))
        return Value()

    def _store_function(self, function: Callable[..., Any], qualname: str) -> str:
        """A shape contains the qualified name of a function, and not its code."""
        return ""
