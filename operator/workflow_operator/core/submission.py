"""Builds the submission of an attempt: the command line and metadata that are posted to the Ray Jobs API.

Called by `decide`. `workflow.submission` defines the command line and the exit codes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from workflow.submission import Submission, encode_args
from workflow_operator.api import GROUP
from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.core.actions import HeadRef, RunRef, StageArgs, SubmitRun


def stage_args(spec: WorkflowSpec, run: RunRef) -> tuple[StageArgs, ...]:
    """Return the action that stores the arguments of the entrypoint with the run; none if there are no arguments.

    Args:
        spec: the spec of the Workflow object.
        run: the run that the submission creates.
    """
    return (StageArgs(run, encode_args(spec.args)),) if spec.args else ()


def submit(
    spec: WorkflowSpec,
    run: RunRef,
    head: HeadRef,
    submission_id: str,
    code: str,
    metadata: Mapping[str, str] | None = None,
    *,
    run_exists: bool = False,
) -> SubmitRun:
    """Build the submission of an attempt.

    Args:
        spec: the spec of the Workflow object.
        run: the run; its uid and attempt belong to the Workflow object.
        head: the only head that the submission may be posted to.
        submission_id: the id that `status` records for this attempt.
        code: sha256 of the stored copy of the user's code; empty if the image contains the code.
        run_exists: whether the run was read from storage before, so that it must not be created again.
        metadata: stored with the run, to name the Workflow that created it; None for no metadata.
    """
    submission = Submission(
        entrypoint=spec.entrypoint,
        args=hashlib.sha256(encode_args(spec.args)).hexdigest() if spec.args else "",
        workflow_id=run.workflow_id,
        run_number=run.run_number,
        run_uuid=run.run_uuid,
        uid=run.uid,
        attempt=run.attempt,
        store=run.store.url,
        code=code,
        # The log counts disruptions too, so its limit is higher, and the operator applies the exact one.
        max_resumes=spec.recovery.max_resumes + spec.recovery.max_disruptions,
        manager_unresponsive_seconds=spec.manager_unresponsive_seconds,
        metadata=dict(metadata or {}),
        run_exists=run_exists,
    )
    return SubmitRun(
        head=head,
        submission_id=submission_id,
        entrypoint=submission.command(),
        run=run,
        code=code,
        runtime_env=spec.runtime_env,
        metadata={f"{GROUP}/workflow": run.name, f"{GROUP}/uid": run.uid, f"{GROUP}/attempt": str(run.attempt)},
    )
