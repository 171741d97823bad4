"""Loads what a Workflow resource names: `module:attribute` and arguments. Each refusal says what to change."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from collections.abc import Mapping
from typing import Any

from workflow.engine.worker.exceptions import describe
from workflow.errors import EntrypointError
from workflow.model.graph import StepNode
from workflow.steps import StepFunction


def load(entrypoint: str, args: Mapping[str, Any]) -> StepNode:
    """The workflow that an entrypoint stands for.

    Args:
        entrypoint: `module:attribute`: a step, a function that returns a Workflow, or a Workflow.
        args: keyword arguments for a step or a function.

    Raises:
        EntrypointInvalid: with what to change.
    """
    module_name, _, attribute = entrypoint.partition(":")
    target: Any = _import(module_name, entrypoint)
    for part in attribute.split("."):
        if not hasattr(target, part):
            known = ", ".join(sorted(name for name in vars(target) if not name.startswith("_"))[:30])
            raise EntrypointError(
                f"spec.entrypoint {entrypoint!r}: {target.__name__!r} has no {part!r}; it has: {known or 'nothing'}. "
                "Name one of these, or add it to the code"
            )
        target = getattr(target, part)
    if isinstance(target, StepNode):
        if args:
            raise EntrypointError(
                f"spec.args are given, but spec.entrypoint {entrypoint!r} is a composed Workflow, which takes none; "
                "leave spec.args out, or name the step itself"
            )
        return target
    if not isinstance(target, StepFunction) and not callable(target):
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} is a {type(target).__name__}; it must be a step, a function that returns "
            "a Workflow, or a Workflow"
        )
    return _call(target, entrypoint, args)


def _import(module_name: str, entrypoint: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise EntrypointError(
                f"spec.entrypoint {entrypoint!r}: there is no module {error.name!r}; put {module_name}.py into the "
                f"code (a key {module_name}.py of the ConfigMap) or correct the name"
            ) from error
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r}: importing {module_name!r} needs the module {error.name!r}, which is not "
            "installed; add it to spec.runtimeEnv.pip, or to the image"
        ) from error
    except SyntaxError as error:
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r}: syntax error in {os.path.basename(error.filename or module_name)}, line "
            f"{error.lineno}: {error.msg}: {(error.text or '').strip()}"
        ) from error
    except Exception as error:
        last = traceback.format_exc().rstrip().splitlines()[-6:]
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r}: importing {module_name!r} raised {type(error).__name__}: {error}\n"
            + "\n".join(last)
        ) from error


def _call(target: Any, entrypoint: str, args: Mapping[str, Any]) -> StepNode:
    function = target.function if isinstance(target, StepFunction) else target
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} does not say which arguments it takes; name a step or a function of Python"
        ) from error
    try:
        signature.bind(**args)
    except TypeError as error:
        raise EntrypointError(
            f"spec.args {sorted(args)} do not fit {entrypoint}{_names(signature)}: {error}"
        ) from error
    if isinstance(target, StepFunction):
        return target.step(**args)
    try:
        root = target(**args)
    except Exception as error:
        info = describe(error)
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} raised {info.kind}: {info.message}\n{info.traceback}"
        ) from error
    if not isinstance(root, StepNode):
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} returned a {type(root).__name__}; a function named there must return a "
            "Workflow (what .step(...) returns), or be a step itself"
        )
    return root


def _names(signature: inspect.Signature) -> inspect.Signature:
    """The parameters without annotations, which may be texts and then come with quotes."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
