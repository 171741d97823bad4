"""Which fields of the spec changed after the current attempt had started, so that only the next attempt uses them.

The RayCluster records the template that it was created from, and the status records what was submitted. Fields that the
operator reads in each round apply at once, and the API server refuses changes of the others (`api.rules`).
"""

from __future__ import annotations

import hashlib
import json

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import ClusterStatus, SubmissionStatus, WorkflowState
from workflow_operator.core.cluster_manifest import digest
from workflow_operator.core.conditions import Entry
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.names import TEMPLATE_LABEL
from workflow_operator.core.observation import ClusterView
from workflow_operator.core.state import TERMINAL

APPLIES_LATER = "AppliesToNextAttempt"


def changed_cluster_fields(
    spec: WorkflowSpec | None, recorded: ClusterStatus, cluster: ClusterView | None
) -> tuple[str, ...]:
    """Return the fields of the spec that a cluster does not fulfill any more; empty if the next attempt may use it.

    Args:
        spec: the spec, or None if it is invalid.
        recorded: the cluster in the status.
        cluster: the cluster as observed, or None if it does not exist.
    """
    if spec is None or cluster is None:
        return ()
    template, selector = spec.cluster.template, spec.cluster.selector
    if recorded.provisioned:
        if template is None:
            return ("spec.cluster",)
        created_from = cluster.labels.get(TEMPLATE_LABEL)
        unchanged = created_from is None or created_from == digest(template, spec.auth)
        return () if unchanged else ("spec.cluster.template or spec.auth",)
    if selector is None:
        return ("spec.cluster",)
    return () if selector.match_labels.items() <= cluster.labels.items() else ("spec.cluster.selector",)


def with_submitted_spec(submission: SubmissionStatus, spec: WorkflowSpec) -> SubmissionStatus:
    """Record in the status which values a submission gets from the spec."""
    return submission.model_copy(
        update={
            "runtime_env_digest": _digest(spec),
            "manager_unresponsive_seconds": spec.manager_unresponsive_seconds,
        }
    )


def spec_applied(context: ReconcileContext, state: WorkflowState) -> Entry:
    """Return the condition that shows whether the current attempt uses the spec.

    Args:
        context: the current round.
        state: the new state.
    """
    kind = "SpecApplied"
    if state.phase in TERMINAL:
        return kind, True, "Finished", "the Workflow is finished"
    if state.attempt and context.spec is None:
        text = f"the next attempt cannot start before the spec is corrected: {context.workflow.refusal}"
        return kind, False, "InvalidSpec", text
    changed = _changed_fields(context, state)
    if changed:
        text = (
            f"attempt {state.attempt} started before a change of {', '.join(changed)}: the next attempt uses the new "
            f"values"
        )
        return kind, False, APPLIES_LATER, text
    return kind, True, "Applied", ""


def _changed_fields(context: ReconcileContext, state: WorkflowState) -> tuple[str, ...]:
    recorded, submission, spec = state.cluster, state.submission, context.spec
    changed: tuple[str, ...] = ()
    named = context.observation.named
    if recorded is not None and named is not None and named.name == recorded.name and recorded.head is not None:
        changed = changed_cluster_fields(spec, recorded, named)
    if submission is None or spec is None:
        return changed
    if submission.runtime_env_digest and submission.runtime_env_digest != _digest(spec):
        changed += ("spec.runtimeEnv",)
    submitted = submission.manager_unresponsive_seconds
    if submitted and submitted != spec.manager_unresponsive_seconds:
        changed += ("spec.managerUnresponsiveSeconds",)
    return changed


def _digest(spec: WorkflowSpec) -> str:
    return hashlib.sha256(json.dumps(spec.runtime_env, sort_keys=True).encode()).hexdigest()[:16]
