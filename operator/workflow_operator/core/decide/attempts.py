"""How an attempt begins: its number, its names and its run go into the status first, effects come after.

Called from Pending (the first attempt, or one after the id was in use) and from Resumable (a resume).
"""

from __future__ import annotations

from workflow_operator.api.status import ClusterStatus, CodeStatus, SubmissionStatus, WorkflowState
from workflow_operator.core import names
from workflow_operator.core.actions import Action, CreateCluster, StageCode, StoreRef
from workflow_operator.core.cluster_manifest import ClusterRequest, Refusal, build
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.failure import owned
from workflow_operator.core.log_facts import is_mine
from workflow_operator.core.observation import RunReadFailure, StoreFailure
from workflow_operator.core.read_plan import store_of, workflow_id_of
from workflow_operator.core.state import Event, move


def obstacle(context: ReconcileContext) -> Note | None:
    """What forbids to begin an attempt now, or None. The log was read and forbids nothing."""
    if context.spec is None:
        return Note("InvalidSpec", context.workflow.refusal, blocked=True, stalled=True)
    missing = secret_note(context) or code_note(context)
    if missing:
        return missing
    manifest = manifest_of(context, context.state.attempt + 1)
    if isinstance(manifest, Refusal):
        return Note("InvalidClusterTemplate", manifest.message, blocked=True, stalled=True)
    return None


def secret_note(context: ReconcileContext) -> Note | None:
    """What is wrong with the storage's settings or its Secret, or None."""
    secret = context.seen.secret
    if store_of(context.workflow, context.seen.defaults) is None:
        text = "no storage is named: write spec.storage, or install the operator with a default storage"
        return Note("StorageMissing", text, blocked=True, stalled=True)
    if secret is None or (secret.present and not secret.missing):
        return None
    keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if not secret.present:
        text = f"Secret {secret.name} does not exist in namespace {context.workflow.namespace}: create it with {keys}"
        return Note("SecretMissing", text, blocked=True)
    text = f"Secret {secret.name} lacks {' and '.join(secret.missing)}: add what is missing"
    return Note("SecretIncomplete", text, blocked=True)


def store_note(context: ReconcileContext) -> Note:
    """Why the log could not be read, and what to do."""
    unread, secret = context.seen.run, context.seen.secret
    if isinstance(unread, RunReadFailure):
        whose = f" (credentials from Secret {secret.name})" if secret is not None else ""
        stalled = unread.trouble is not StoreFailure.UNAVAILABLE
        return Note(unread.trouble.value, f"{unread.message}{whose}", blocked=True, stalled=stalled)
    return secret_note(context) or Note("StoreNotRead", "the log was not read in this round", blocked=True)


def code_note(context: ReconcileContext) -> Note | None:
    """What is wrong with the code's ConfigMap, or None; nothing is, where a copy is kept already."""
    view, seen = context.facts.view, context.seen.config_map
    if seen is None or (view is not None and view.code) or context.facts.code_staged:
        return None
    if not seen.present:
        text = (
            f"ConfigMap {seen.name} does not exist in namespace {context.workflow.namespace}: create it with the code"
        )
        return Note("ConfigMapMissing", text, blocked=True)
    if seen.refusal:
        return Note("CodeRefused", f"ConfigMap {seen.name}: {seen.refusal}", blocked=True, stalled=True)
    return None


def manifest_of(context: ReconcileContext, attempt: int) -> dict[str, object] | Refusal | None:
    """The RayCluster of an attempt, or why there can be none; None where a running cluster is chosen by labels."""
    spec, workflow = context.spec, context.workflow
    if spec is None or spec.cluster.template is None:
        return None
    store = store_of(workflow, context.seen.defaults)
    request = ClusterRequest(
        name=workflow.name,
        namespace=workflow.namespace,
        uid=workflow.uid,
        labels=dict(workflow.labels),
        attempt=attempt,
        secret=store.secret if store else "",
        auth=spec.auth,
    )
    return build(spec.cluster.template, request)


def begin(context: ReconcileContext, note: Note, *, resume: bool) -> Outcome:
    """The next attempt: Provisioning, with everything that it will be found by in the status.

    Args:
        turn: a round in which nothing forbids it.
        note: why it begins.
        resume: it follows a failure.
    """
    attempt = _last_attempt(context) + 1
    kept = context.state.cluster
    manifest = manifest_of(context, attempt) if kept is None else None
    cluster = kept.model_copy(update={"head": None, "unreachable_since": None}) if kept else None
    actions: tuple[Action, ...] = ()
    if isinstance(manifest, dict):
        name = names.cluster_name(context.workflow.name, context.workflow.uid, attempt)
        cluster = ClusterStatus(name=name, provisioned=True)
        actions = (CreateCluster(name, manifest),)
    store = store_of(context.workflow, context.seen.defaults) or StoreRef("", "")
    resumes = context.state.resumes
    state = move(context.state, Event.ATTEMPT_BEGAN, context.now).model_copy(
        update={
            "attempt": attempt,
            "attempt_time": context.now,
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
    return Outcome(state, note, actions, 0.0 if cluster is None or kept else 2.0)


def _last_attempt(context: ReconcileContext) -> int:
    """The last attempt that anybody knows of: the status, the log, or a cluster, in case a status was lost or
    restored."""
    view = context.facts.view
    logged = (
        view.owner.attempt if view is not None and view.owner is not None and is_mine(context.workflow, view) else 0
    )
    made = [names.attempt_of(cluster.labels) for cluster in context.seen.clusters if owned(context, cluster)]
    return max(context.state.attempt, logged, *made)


def code_of(context: ReconcileContext) -> CodeStatus | None:
    """The code of the run: the copy that the log names, else the one staged, else what the ConfigMap holds now."""
    view, seen, old = context.facts.view, context.seen.config_map, context.state.code
    if view is not None and view.code and context.facts.run_number == view.run_number:
        return CodeStatus(config_map=old.config_map if old else "", sha256=view.code)
    if old is not None and (context.facts.code_staged or seen is None or not seen.sha256):
        return old
    return CodeStatus(config_map=seen.name, sha256=seen.sha256) if seen is not None and seen.sha256 else None


def stage(context: ReconcileContext, state: WorkflowState) -> tuple[Action, ...]:
    """Keep the copy of the code, where none is kept yet."""
    view, run = context.facts.view, context.run()
    kept = context.facts.code_staged or (view is not None and view.code and context.facts.run_number == view.run_number)
    if state.code is None or run is None or kept:
        return ()
    return (StageCode(run, state.code.config_map, state.code.sha256),)
