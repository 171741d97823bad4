"""Loads the workflow that a Workflow resource names: `module:attribute` with arguments. Errors name what to change."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Mapping
from typing import Any, Final

from workflow.engine.worker.exceptions import describe
from workflow.errors import EntrypointError
from workflow.model.graph import StepNode
from workflow.model.signatures import signature_of, without_annotations
from workflow.steps import StepFunction

_NAMES_SHOWN: Final = 30
_TRACEBACK_LINES_SHOWN: Final = 6


def load(entrypoint: str, args: Mapping[str, Any]) -> StepNode:
    """Return the workflow that an entrypoint names.

    Args:
        entrypoint: `module:attribute` of a step, a function that returns a Workflow, or a Workflow.
        args: keyword arguments for the step or the function.

    Raises:
        EntrypointError: the entrypoint cannot be loaded or called; the text names what to change.
    """
    module_name, _, attribute = entrypoint.partition(":")
    target: Any = _import(module_name, entrypoint)
    for part in attribute.split("."):
        target = _attribute(target, part, entrypoint)
    if isinstance(target, StepNode):
        if args:
            raise EntrypointError(
                f"spec.args are given, but spec.entrypoint {entrypoint!r} is a composed Workflow, which takes none; "
                "remove spec.args, or name the step itself"
            )
        return target
    if not isinstance(target, StepFunction) and not callable(target):
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} is a {type(target).__name__}; it must be a step, a function that returns "
            "a Workflow, or a Workflow"
        )
    return _call(target, entrypoint, args)


def _attribute(target: Any, part: str, entrypoint: str) -> Any:
    try:
        return getattr(target, part)
    except AttributeError as error:
        names = getattr(target, "__dict__", {})
        known = ", ".join(sorted(name for name in names if not name.startswith("_"))[:_NAMES_SHOWN])
        name = getattr(target, "__name__", type(target).__name__)
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r}: {name!r} has no {part!r}; it has: {known or 'nothing'}. "
            "Name one of these, or add it to the code"
        ) from error
    except Exception as error:
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r}: reading {part!r} raised {type(error).__name__}: {error}; correct the code"
        ) from error


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
            f"{error.lineno}: {error.msg}: {(error.text or '').strip()}; correct the code"
        ) from error
    except Exception as error:
        last = traceback.format_exc().rstrip().splitlines()[-_TRACEBACK_LINES_SHOWN:]
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r}: importing {module_name!r} raised {type(error).__name__}: {error}\n"
            + "\n".join(last)
        ) from error


def _call(target: Any, entrypoint: str, args: Mapping[str, Any]) -> StepNode:
    step = target if isinstance(target, StepFunction) else None
    try:
        signature = signature_of(step.function if step is not None else target)
    except ValueError as error:
        if step is not None:  # the call checks the arguments
            return step.step(**args)
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} has no signature that Python can read; name a step or a Python function"
        ) from error
    try:
        signature.bind(**args)
    except TypeError as error:
        raise EntrypointError(
            f"spec.args {sorted(args)} do not fit {entrypoint}{without_annotations(signature)}: {error}"
        ) from error
    if step is not None:
        return step.step(**args)
    try:
        root = target(**args)
    except Exception as error:
        info = describe(error)
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} raised {info.kind}: {info.message}\n{info.traceback}"
        ) from error
    if not isinstance(root, StepNode):
        raise EntrypointError(
            f"spec.entrypoint {entrypoint!r} returned a {type(root).__name__}; it must be a step, or a function that "
            "returns a Workflow (what .step(...) returns)"
        )
    return root
