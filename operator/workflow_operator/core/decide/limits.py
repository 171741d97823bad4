"""Decides when the resumes of a Workflow are exhausted.

`recovery.maxResumes` limits the attempts without progress that failed. `recovery.maxDisruptions` limits those that
Kubernetes ended. The log counts both together, and `attempt_count` separates them.
"""

from __future__ import annotations

from workflow_operator.core.attempt_count import DISRUPTIONS, counted
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.log_facts import Ownership


def exhausted_limit(context: ReconcileContext) -> tuple[str, str] | None:
    """Return reason and message if no further attempt may follow the last failure, or None.

    While the spec is invalid, its limits are unknown, so that they end no run.
    """
    failure, resumes, recovery = context.state.last_failure, context.state.resumes, context.recovery
    if failure is None or context.spec is None:
        return None
    last = f"the last failure was {failure.reason}: {failure.message}"
    if failure.reason in DISRUPTIONS:
        if resumes.disruptions <= recovery.max_disruptions:
            return None
        text = (
            f"{resumes.disruptions} consecutive disruptions (spec.recovery.maxDisruptions: {recovery.max_disruptions})"
        )
        return "DisruptionsExhausted", f"{text}{_suspects(context)}; {last}"
    if context.facts.ownership is Ownership.OURS and context.facts.owner_alive:
        # Only drivers failed. The manager runs the run, and a later driver can attach to it.
        resumes = resumes.model_copy(update={"never_ran": 0})
    number = counted(resumes, _epochs(context))
    if number < recovery.max_resumes:
        return None
    text = f"{number} consecutive resumes or attempts finished no step"
    return "ResumesExhausted", f"{text} (spec.recovery.maxResumes: {recovery.max_resumes}){_suspects(context)}; {last}"


def exhausted_while_running(context: ReconcileContext) -> str:
    """Return why a running attempt must end, or an empty string.

    Ray restarts a manager that failed, and each restart is another epoch.
    """
    resumes, limit = context.state.resumes, context.recovery.max_resumes
    epochs = max(_epochs(context) - resumes.excused, 0)
    if epochs <= limit or context.spec is None:
        return ""
    text = f"{epochs} consecutive owners of the run finished no step (spec.recovery.maxResumes: {limit})"
    return f"{text}{_suspects(context)}"


def _epochs(context: ReconcileContext) -> int:
    view = context.facts.view
    is_ours = view is not None and context.facts.ownership is Ownership.OURS
    return view.epochs_without_progress if view is not None and is_ours else 0


def _suspects(context: ReconcileContext) -> str:
    view, failure = context.facts.view, context.state.last_failure
    steps = (*(view.suspect_steps if view else ()), *(failure.running_steps if failure else ()))
    return f"; steps that were running at the failures: {', '.join(dict.fromkeys(steps))}" if steps else ""
