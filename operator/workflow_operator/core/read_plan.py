"""The reads of one round, as data. `observe` executes them and makes no decisions.

The module belongs to `core` because the run, the cluster and the head follow from spec and status alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from workflow_operator.api.status import Phase
from workflow_operator.core import names
from workflow_operator.core.actions import HeadRef, RunRef, StoreRef
from workflow_operator.core.observation import ClusterView, Defaults, WorkflowObject

_PHASES_WITH_SUBMISSION = frozenset({Phase.PROVISIONING, Phase.RUNNING, Phase.CANCELING})
_PHASES_WITHOUT_ATTEMPT = frozenset({None, Phase.PENDING, Phase.PROVISIONING, Phase.RESUMABLE})
"""Phases in which a cluster may be created. That is useless in a namespace that is being deleted."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The reads of one round.

    Attributes:
        store: the store that contains the log, or None if no storage is known.
        workflow_id: the id whose newest run is read.
        staged: the run whose blobs may contain the copy of the code, or None if this need not be read.
        code: the digest of that copy.
        secret: the name of the storage Secret, or empty.
        config_map: the name of the ConfigMap with the code, or empty.
        cluster: the name of the RayCluster in the status, or empty.
        selector: the labels of candidates; empty without a selector, or after a cluster was selected.
        submission: the submission id to read, or empty; `head_to_query` returns the head.
        recorded: the run that was read before, or None. If it is missing, `observe` reads what remains of it.
        namespace: whether to read if the namespace is being deleted.
    """

    store: StoreRef | None
    workflow_id: str
    staged: RunRef | None = None
    code: str = ""
    secret: str = ""
    config_map: str = ""
    cluster: str = ""
    selector: Mapping[str, str] = field(default_factory=dict)
    submission: str = ""
    recorded: RunRef | None = None
    namespace: bool = False


def read_plan(workflow: WorkflowObject, defaults: Defaults) -> ReadPlan:
    """Return the reads for a Workflow in its current state."""
    spec, state = workflow.spec, workflow.state
    store = store_of(workflow, defaults)
    code = state.code
    selector = spec.cluster.selector if spec and state.cluster is None else None
    return ReadPlan(
        store=store,
        workflow_id=workflow_id_of(workflow),
        staged=run_of(workflow, store) if store and code else None,
        code=code.sha256 if code else "",
        secret=store.secret if store else "",
        config_map=spec.code.config_map.name if spec and spec.code else "",
        cluster=state.cluster.name if state.cluster else "",
        selector=dict(selector.match_labels) if selector else {},
        submission=state.submission.id if state.submission and state.phase in _PHASES_WITH_SUBMISSION else "",
        recorded=run_of(workflow, store) if store and state.epoch else None,
        namespace=workflow.deleted is not None or state.phase in _PHASES_WITHOUT_ATTEMPT,
    )


def workflow_id_of(workflow: WorkflowObject) -> str:
    """Return the workflow id: from the status, else from the spec, else the id that is unique to the object."""
    given = workflow.spec.workflow_id if workflow.spec else None
    own = names.default_workflow_id(workflow.namespace, workflow.name, workflow.uid)
    return workflow.state.workflow_id or given or own


def store_of(workflow: WorkflowObject, defaults: Defaults) -> StoreRef | None:
    """Return the store of a Workflow: from the status, else from the spec, else from the operator's defaults.

    Each namespace has its own root in the bucket.

    Returns:
        The store, or None if none is configured.
    """
    state = workflow.state
    if state.storage:
        return StoreRef(state.storage, state.secret_name)
    storage = workflow.spec.storage if workflow.spec else None
    if storage is not None:
        secret = storage.secret_ref.name if storage.secret_ref else ""
        return StoreRef(_url(storage.uri, storage.endpoint, storage.region, workflow.namespace), secret)
    if not defaults.storage_uri:
        return None
    url = _url(defaults.storage_uri, defaults.storage_endpoint, defaults.storage_region, workflow.namespace)
    return StoreRef(url, defaults.storage_secret)


def run_of(workflow: WorkflowObject, store: StoreRef) -> RunRef:
    """Return the run in the status, with this Workflow as the requester."""
    state = workflow.state
    return RunRef(
        store=store,
        workflow_id=workflow_id_of(workflow),
        run_number=state.run_number,
        run_uuid=state.run_id,
        uid=workflow.uid,
        attempt=state.attempt,
        name=workflow.name,
    )


def head_to_query(workflow: WorkflowObject, named: ClusterView | None) -> HeadRef | None:
    """Return the head that received the submission, or None if that head is not running."""
    cluster = workflow.state.cluster
    if named is None or named.head is None or cluster is None or cluster.head is None:
        return None
    head = named.head
    if head.identity != cluster.head or not head.running or head.deleting or not head.ip:
        return None
    return HeadRef(named.name, head.identity, head.ip, named.token_secret)


def _url(uri: str, endpoint: str | None, region: str | None, namespace: str) -> str:
    query = {key: value.rstrip("/") for key, value in (("endpoint", endpoint), ("region", region)) if value}
    root = f"{uri.rstrip('/')}/{namespace}"
    return f"{root}?{urlencode(query)}" if query else root
