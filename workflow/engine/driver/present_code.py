"""Chooses the code of a new epoch: the functions that are stored with the run, or those of this process.

When a run is resumed, outcomes stay. Steps without an outcome execute the present code of their function, if this is
surely the same program. This works for functions that a process can find by module and name. Lambdas, functions
within functions, partials and methods of objects keep their stored code.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator
from typing import Final

from workflow.engine.worker import context
from workflow.engine.worker.run_values import RunValues
from workflow.errors import CorruptLogError, InvalidInputError
from workflow.log import definitions
from workflow.log.code_digest import PYTHON, innermost
from workflow.log.stored_function import StoredFunction, origin
from workflow.model.graph import StepSpec
from workflow.model.program import Choice, Code, Program, choose, is_same_program
from workflow.model.state import RunState

_AMBIGUOUS: Final = "there are several functions {} in the run, of which only the last has this name here"

logger = logging.getLogger(__name__)


def replace_functions(state: RunState, values: RunValues, here: Program, uid: str) -> dict[str, str]:
    """Store the functions of this process that replace those of a run. Log each replacement and each refusal once.

    Args:
        state: the state of the run that is about to be claimed.
        values: the values of the run.
        here: the program that this process executes.
        uid: uid of the Workflow object for which the run is claimed; empty without the operator.

    Returns:
        The blob of each replaced function as stored with the run -> the blob of the function to execute.
    """
    same_object = uid != "" and uid in (state.created.owner.uid, state.owner.uid)
    ambiguous = _ambiguous_names(state, values)
    replaced = {}
    for spec in _functions(state):
        stored = _stored(values, state.functions.get(spec.function, spec.function))
        if stored is None:
            continue
        present = _present(spec) if spec.qualname not in ambiguous else _AMBIGUOUS.format(spec.qualname)
        if isinstance(present, str):
            logger.warning("workflow %r: %s; the stored function is executed", state.created.workflow_id, present)
            continue
        code = Code(*origin(present), PYTHON)
        known = same_object or is_same_program(state.created.program, here, stored.source, code.source)
        choice = choose(Code(stored.digest, stored.source, stored.python), code, same_program=known)
        if choice is Choice.PRESENT:
            replaced[spec.function] = values.store_function(present, spec.qualname, again=True)
        _log(state, spec, choice, stored.source, code.source)
    return replaced


def _functions(state: RunState) -> Iterator[StepSpec]:
    """Yield a step of each function that may be found by name and that a step without an outcome executes.

    A worker that resumes a nested workflow is not the user's script, so that it has none of the script's functions.
    """
    seen = set()
    no_script = context.current_step() is not None
    for step in state.steps.values():
        spec = step.spec
        if not spec.module or (no_script and spec.module in definitions.MAIN_MODULES):
            continue
        if step.outcome is None and spec.function not in seen:
            seen.add(spec.function)
            yield spec


def _ambiguous_names(state: RunState, values: RunValues) -> set[str]:
    """Return the names that functions with different code have in one DAG, as those of a step within a loop."""
    blobs: dict[tuple[str, str], set[str]] = {}
    for step in state.steps.values():
        if step.spec.module:
            dag = step.scope.spec.step_id if step.scope is not None else ""
            blobs.setdefault((dag, step.spec.qualname), set()).add(step.spec.function)
    ambiguous = set()
    for (_, qualname), of_one_name in blobs.items():
        if len(of_one_name) > 1:
            stored = [_stored(values, blob) for blob in of_one_name]
            if len({each.digest for each in stored if each is not None}) > 1:
                ambiguous.add(qualname)
    return ambiguous


def _stored(values: RunValues, blob: str) -> StoredFunction | None:
    """Return a function as stored; None if it has no code to compare, or cannot be read here."""
    try:
        stored = values.load_stored_function(blob)
    except (InvalidInputError, CorruptLogError) as error:
        logger.warning(
            "cannot compare function %s with the code of this program, so the stored function is executed: %s",
            blob,
            error,
        )
        return None
    return stored if isinstance(stored, StoredFunction) else None


def _present(spec: StepSpec) -> types.FunctionType | str:
    """Return the function of the step with this name in this process, or why there is none."""
    qualname = spec.qualname.removeprefix(f"{spec.module}.")
    try:
        module = definitions.load_module(spec.module)
    except Exception as error:  # noqa: BLE001 - the code of a user's module may raise anything
        return f"module {spec.module!r} cannot be imported here ({type(error).__name__}: {error})"
    function = innermost(definitions.named(module, qualname))
    if not isinstance(function, types.FunctionType) or function.__qualname__ != qualname:
        return f"module {spec.module!r} has no step {qualname!r} here"
    return function


def _log(state: RunState, spec: StepSpec, choice: Choice, stored_source: str, source: str) -> None:
    workflow_id = state.created.workflow_id
    if choice is Choice.PRESENT:
        logger.warning(
            "workflow %r: function %s has changed; steps without an outcome execute the present code in %s",
            workflow_id,
            spec.qualname,
            source or "this process",
        )
    elif choice is Choice.STORED:
        logger.warning(
            "workflow %r: function %s here (%s) differs from the one that is stored with the run (%s, created by %s). "
            "This may be another program, so the stored function is executed; to use new code, give both programs the "
            "same name with workflow.init(program=...)",
            workflow_id,
            spec.qualname,
            source or "no file",
            stored_source or "no file",
            state.created.main_script or "a session without a script",
        )
