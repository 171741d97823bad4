"""Starts a submission attempt. Its number, names and run are written to the status before any effect.

Pending calls it for the first attempt and after the workflow id was in use. Resumable calls it for a resume.
"""

from __future__ import annotations

from workflow_operator.api.status import ClusterStatus, CodeStatus, SubmissionStatus, WorkflowState
from workflow_operator.core import loss, names
from workflow_operator.core.actions import Action, CreateCluster, StageCode, StoreRef
from workflow_operator.core.cluster_manifest import ClusterRequest, Refusal, build
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.failure import is_owned
from workflow_operator.core.decide.reachability import REPLIED
from workflow_operator.core.log_facts import claimed_by
from workflow_operator.core.observation import RunReadFailure, StoreFailure
from workflow_operator.core.read_plan import store_of, workflow_id_of
from workflow_operator.core.state import Event, move


def attempt_blocker(context: ReconcileContext) -> Explanation | None:
    """Return why no attempt can start now, or None. The caller has checked that the log permits an attempt."""
    if context.spec is None:
        return Explanation("InvalidSpec", context.workflow.refusal, blocked=True, stalled=True)
    missing = secret_problem(context) or code_problem(context)
    if missing:
        return missing
    manifest = manifest_of(context, context.state.attempt + 1)
    if isinstance(manifest, Refusal):
        return Explanation("InvalidClusterTemplate", manifest.message, blocked=True, stalled=True)
    return None


def secret_problem(context: ReconcileContext) -> Explanation | None:
    """Return what is wrong with the storage settings or the storage Secret, or None."""
    secret, namespace = context.observation.secret, context.workflow.namespace
    if store_of(context.workflow, context.observation.defaults) is None:
        text = "no storage is configured: set spec.storage, or install the operator with a default storage"
        return Explanation("StorageMissing", text, blocked=True, stalled=True)
    if secret is None or (secret.present and not secret.missing):
        return None
    if not secret.present:
        keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        text = f"Secret {secret.name} does not exist in namespace {namespace}: create it with the keys {keys}"
        return Explanation("SecretMissing", text, blocked=True)
    missing = " and ".join(secret.missing)
    text = f"Secret {secret.name} in namespace {namespace} is incomplete: add {missing}"
    return Explanation("SecretIncomplete", text, blocked=True)


def store_problem(context: ReconcileContext) -> Explanation:
    """Return why the log could not be read, and what to do."""
    run, secret = context.observation.run, context.observation.secret
    if context.facts.loss is not None:
        return loss.explain(context.state, run, context.facts.loss, context.now)
    if isinstance(run, RunReadFailure):
        source = f" (credentials from Secret {secret.name})" if secret is not None else ""
        stalled = run.kind is not StoreFailure.UNAVAILABLE
        return Explanation(run.kind.value, f"{run.message}{source}", blocked=True, stalled=stalled)
    text = "the log was not read in this round; the next round reads it"
    return secret_problem(context) or Explanation("StoreNotRead", text, blocked=True)


def code_problem(context: ReconcileContext) -> Explanation | None:
    """Return what is wrong with the ConfigMap of the code, or None; a stored copy of the code makes it irrelevant."""
    view, config_map = context.facts.view, context.observation.config_map
    if config_map is None or (view is not None and view.code) or context.facts.code_staged:
        return None
    if not config_map.present:
        namespace = context.workflow.namespace
        text = f"ConfigMap {config_map.name} does not exist in namespace {namespace}: create it with the code"
        return Explanation("ConfigMapMissing", text, blocked=True)
    if config_map.refusal:
        text = f"ConfigMap {config_map.name}: {config_map.refusal}"
        return Explanation("CodeRefused", text, blocked=True, stalled=True)
    return None


def manifest_of(context: ReconcileContext, attempt: int, cluster: str = "") -> dict[str, object] | Refusal | None:
    """Build the RayCluster of an attempt.

    Args:
        context: the current round.
        attempt: the number of the attempt.
        cluster: the name that the status recorded for the RayCluster; empty if it gets a new one.

    Returns:
        The RayCluster as JSON, or why the template is invalid; None if a running cluster is selected by labels.
    """
    spec, workflow = context.spec, context.workflow
    if spec is None or spec.cluster.template is None:
        return None
    store = store_of(workflow, context.observation.defaults)
    request = ClusterRequest(
        name=workflow.name,
        namespace=workflow.namespace,
        uid=workflow.uid,
        labels=dict(workflow.labels),
        attempt=attempt,
        secret=store.secret if store else "",
        auth=spec.auth,
        cluster=cluster,
    )
    return build(spec.cluster.template, request)


def start_attempt(context: ReconcileContext, explanation: Explanation, *, resume: bool) -> Outcome:
    """Start the next attempt: enter Provisioning, and record all names by which the attempt can be found.

    Args:
        context: a round in which nothing blocks the attempt.
        explanation: why the attempt starts.
        resume: whether the attempt follows a failure.
    """
    attempt = _last_attempt(context) + 1
    reused = context.state.cluster
    manifest = manifest_of(context, attempt) if reused is None else None
    cluster = reused.model_copy(update={"head": None, **REPLIED}) if reused else None
    actions: tuple[Action, ...] = ()
    if isinstance(manifest, dict):
        name = names.cluster_name(context.workflow.name, context.workflow.uid, attempt)
        cluster = ClusterStatus(name=name, provisioned=True)
        actions = (CreateCluster(name, manifest),)
    store = store_of(context.workflow, context.observation.defaults) or StoreRef("", "")
    resumes = context.state.resumes
    state = move(context.state, Event.ATTEMPT_STARTED, context.now).model_copy(
        update={
            "attempt": attempt,
            "attempt_time": context.now,
            "attempt_steps": context.state.steps.succeeded,
            "storage": store.url,
            "secret_name": store.secret,
            "workflow_id": workflow_id_of(context.workflow),
            "run_number": context.facts.run_number,
            "run_id": context.facts.run_uuid,
            "cluster": cluster,
            "submission": SubmissionStatus(id=names.submission_id(context.workflow.uid, attempt)),
            "code": code_of(context),
            "resumes": resumes.model_copy(update={"total": resumes.total + 1}) if resume else resumes,
            "next_attempt_time": None,
        }
    )
    is_new_cluster = cluster is not None and reused is None
    return Outcome(state, explanation, actions, 2.0 if is_new_cluster else 0.0)


def _last_attempt(context: ReconcileContext) -> int:
    """Return the highest attempt in the status, the log and the clusters.

    The log and the clusters matter if the status was lost or restored from an older copy.
    """
    view = context.facts.view
    is_ours = claimed_by(context.workflow, view)
    logged = view.owner.attempt if view is not None and view.owner is not None and is_ours else 0
    clusters = [cluster for cluster in context.observation.clusters if is_owned(context, cluster)]
    return max(context.state.attempt, logged, *(names.attempt_of(cluster.labels) for cluster in clusters))


def code_of(context: ReconcileContext) -> CodeStatus | None:
    """Return the code of the run: the copy in the log, else the staged copy, else the current ConfigMap."""
    view, config_map, old = context.facts.view, context.observation.config_map, context.state.code
    if view is not None and view.code and context.facts.run_number == view.run_number:
        return CodeStatus(config_map=old.config_map if old else "", sha256=view.code)
    if old is not None and (context.facts.code_staged or config_map is None or not config_map.sha256):
        return old
    if config_map is not None and config_map.sha256:
        return CodeStatus(config_map=config_map.name, sha256=config_map.sha256)
    return None


def stage_code(context: ReconcileContext, state: WorkflowState) -> tuple[Action, ...]:
    """Return the action that copies the code to the run, unless a copy exists.

    Args:
        context: the current round.
        state: the new state, which names the code.
    """
    view, run = context.facts.view, context.run()
    is_in_log = view is not None and view.code and context.facts.run_number == view.run_number
    if state.code is None or run is None or context.facts.code_staged or is_in_log:
        return ()
    return (StageCode(run, state.code.config_map, state.code.sha256),)
