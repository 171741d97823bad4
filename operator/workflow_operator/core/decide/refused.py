"""Decides what follows if the submission refused its input, or the store refused the cluster.

Bad input ends a run only before the run exists. If this Workflow owns a run, the attempt has failed. The user corrects
the image, the Secret or the code, and a later attempt continues the run. If another owner has the run, the Workflow
fails, and the log stays as it is.
"""

from __future__ import annotations

from workflow.submission import ExitCode, Refusal
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.ending import fail_without_log
from workflow_operator.core.decide.failure import DetectedFailure, fail_attempt, fail_permanently, manager_works
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.observation import ENDED_JOBS, SubmissionView

RESUME_REFUSED = "ResumeRefused"
STORE_REFUSED = "StoreRefused"

_REASONS = {
    ExitCode.BAD_INPUT: Refusal.ENTRYPOINT_INVALID.value,
    ExitCode.CONFLICT: Refusal.WORKFLOW_CONFLICT.value,
}
"""Reasons of a Workflow that owns no run, by the exit code of its submission."""


def refused_submission(context: ReconcileContext) -> Outcome | None:
    """Return what follows from a submission that refused its input or that the store refused, or None.

    The caller has checked that the log contains no terminal state. Nothing is decided until the log was read.
    """
    job, ownership = context.observation.submission, context.facts.ownership
    if not isinstance(job, SubmissionView) or job.state not in ENDED_JOBS or ownership is Ownership.UNREAD:
        return None
    if job.exit_code == ExitCode.STORE_REFUSED:
        text = job.message or "the store refused the cluster: correct the credentials of its pods"
        return fail_attempt(context, DetectedFailure(STORE_REFUSED, text, head_alive=manager_works(context)))
    reason = next((text for code, text in _REASONS.items() if code == job.exit_code), "")
    if not reason:
        return None
    if ownership is Ownership.OURS:
        text = job.message or "the submission cannot continue the run: correct its image, Secret or code"
        return fail_attempt(context, DetectedFailure(RESUME_REFUSED, text, head_alive=manager_works(context)))
    text = job.message or "the entrypoint refused its input"
    if ownership is Ownership.IN_USE or context.facts.is_free_run_of_other_owner:
        return fail_without_log(context, Explanation(reason, text))
    if job.exit_code == ExitCode.CONFLICT:  # the other run was deleted meanwhile, so that the id is free
        return None
    return fail_permanently(context, DetectedFailure(reason, text, head_alive=True))
