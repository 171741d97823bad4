"""What is posted to the Jobs API for an attempt, and what the exit codes of the entrypoint mean.

Called by `decide`. The other side of this contract is `workflow.entrypoint`.
"""

from __future__ import annotations

import json
import shlex
from enum import IntEnum

from workflow_operator.api import GROUP
from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.core.actions import HeadRef, RunRef, SubmitRun


class Exit(IntEnum):
    """Exit codes of `python -m workflow.entrypoint` that say more than "it crashed"."""

    ENDED = 0
    SUPERSEDED = 3
    IN_USE = 4
    MANAGER_UNRESPONSIVE = 5
    BAD_INPUT = 6


def submit(spec: WorkflowSpec, run: RunRef, head: HeadRef, submission_id: str, code: str) -> SubmitRun:
    """The submission of an attempt.

    Args:
        spec: of the object.
        run: the run; its uid and attempt are the object's.
        head: the one head that it may be posted to.
        submission_id: stands in status.
        code: digest of the kept copy of the user's code, or empty.
    """
    payload = {
        "entrypoint": spec.entrypoint,
        "args": spec.args,
        "workflowId": run.workflow_id,
        "runNumber": run.run_number,
        "runUuid": run.run_uuid,
        "uid": run.uid,
        "attempt": run.attempt,
        "store": run.store.url,
        "code": code,
        "maxResumes": spec.recovery.max_resumes,
        "managerUnresponsiveSeconds": spec.manager_unresponsive_seconds,
        "metadata": {},
    }
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return SubmitRun(
        head=head,
        submission_id=submission_id,
        entrypoint=f"python -m workflow.entrypoint {shlex.quote(text)}",
        run=run,
        code=code,
        runtime_env=spec.runtime_env,
        metadata={f"{GROUP}/workflow": run.name, f"{GROUP}/uid": run.uid, f"{GROUP}/attempt": str(run.attempt)},
    )
