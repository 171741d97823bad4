"""Workflows from Ray DAGs: `create` and `continuation` for tasks that are composed with `.bind`.

Each bound task becomes a step. Its function, its arguments and its options are those of the Ray task.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.dag import DAGInputData, DAGNode, FunctionNode, InputAttributeNode, InputNode

from workflow.engine.worker import context
from workflow.engine.worker.arguments import AsReference
from workflow.errors import InvalidInputError, WrongTypeError
from workflow.model.calls import checked_call
from workflow.model.graph import StepOptions
from workflow.steps import StepFunction, Workflow


@checked_call("workflow.create")
def create(dag_node: DAGNode, *args: Any, **kwargs: Any) -> Workflow[Any]:
    """Return the workflow of a DAG that was composed with `.bind`. Nothing is executed.

    An argument that is the result of another task itself is passed as its value. Within a list or another container it
    is an ObjectRef, as in a Ray task.

    Args:
        dag_node: a bound task: the last node of the DAG.
        *args, **kwargs: the input of the DAG, which its `InputNode` represents.

    Raises:
        WrongTypeError: this is not a bound task, or a node of the DAG cannot be a step, for example an actor.
        InvalidInputError: the input lacks what an `InputNode` refers to, or a step cannot have an option of a task.
    """
    if not isinstance(dag_node, DAGNode):
        raise WrongTypeError(
            f"workflow.create takes a DAG that was composed with .bind(...), not a {type(dag_node).__name__}; call "
            "task.bind(...) on a function with @ray.remote"
        )
    if not isinstance(dag_node, FunctionNode):
        raise _unsupported(dag_node)

    def visit(node: Any) -> Any:
        if isinstance(node, FunctionNode):
            return AsReference(_step_of(node))
        if isinstance(node, InputAttributeNode):
            return _attribute(node)
        if isinstance(node, InputNode):
            return args[0] if len(args) == 1 and not kwargs else DAGInputData(*args, **kwargs)
        raise _unsupported(node)

    found: Workflow[Any] = dag_node.apply_recursive(visit).step
    return found


@checked_call("workflow.continuation")
def continuation(dag_node: DAGNode) -> Any:
    """Continue with a DAG that was composed with `.bind`, in a workflow as in a plain Ray task.

    A step returns the result, which then takes its place. Outside of workflows, the DAG is executed by Ray.

    Args:
        dag_node: a bound task: the last node of the DAG.

    Returns:
        Within a step, the workflow of the DAG. Otherwise, the value of the DAG.

    Raises:
        WrongTypeError: see `create`.
    """
    if context.current_step() is not None:
        return create(dag_node)
    if not isinstance(dag_node, DAGNode):
        raise WrongTypeError(
            f"workflow.continuation takes a DAG that was composed with .bind(...), not a {type(dag_node).__name__}"
        )
    return ray.get(dag_node.apply_recursive(lambda node: node._execute_impl()))


def _step_of(node: FunctionNode) -> Workflow[Any]:
    step = StepFunction(node._body, StepOptions()).options(**node._bound_options)
    args = [_value(each) for each in node._bound_args]
    return step.step(*args, **{name: _value(each) for name, each in node._bound_kwargs.items()})


def _value(argument: Any) -> Any:
    return argument.step if isinstance(argument, AsReference) else argument


def _attribute(node: InputAttributeNode) -> Any:
    try:
        return node._execute_impl()
    except (LookupError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f"the input of the DAG has no {node.key!r}, to which its InputNode refers: {type(error).__name__}: "
            f"{error}; pass it to workflow.create after the DAG"
        ) from error


def _unsupported(node: DAGNode) -> WrongTypeError:
    return WrongTypeError(
        f"a {type(node).__name__} cannot be a step of a workflow: only functions with @ray.remote can, because an "
        "actor does not outlive its cluster; bind a function that creates or finds what it needs"
    )
