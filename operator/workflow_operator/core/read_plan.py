"""What to look at in a round, as data: `observe` asks exactly this and decides nothing.

Stands in `core` because which run, which cluster and which head are meant follows from spec and status alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from workflow_operator.api.status import Phase
from workflow_operator.core import names
from workflow_operator.core.actions import HeadRef, RunRef, StoreRef
from workflow_operator.core.observation import ClusterView, Defaults, WorkflowObject

_ASKING = frozenset({Phase.PROVISIONING, Phase.RUNNING, Phase.CANCELING})


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What one round must look at.

    Attributes:
        store: where the log lies, or None where no storage is known.
        workflow_id: whose highest run to read.
        staged: the run whose blobs may hold the copy of the code, or None where nobody needs to look.
        code: digest of that copy.
        secret: the storage Secret's name, or empty.
        config_map: the code's ConfigMap, or empty.
        cluster: the RayCluster that status names, or empty.
        selector: labels of candidates; empty without a selector, or while a cluster is chosen.
        submission: the submission id to ask about, or empty; `head_to_ask` says whom.
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


def read_plan(workflow: WorkflowObject, defaults: Defaults) -> ReadPlan:
    """What to look at for this object now."""
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
        submission=state.submission.id if state.submission and state.phase in _ASKING else "",
    )


def workflow_id_of(workflow: WorkflowObject) -> str:
    """The workflow id: what status says, else what spec says, else the object's own."""
    given = workflow.spec.workflow_id if workflow.spec else None
    own = names.default_workflow_id(workflow.namespace, workflow.name, workflow.uid)
    return workflow.state.workflow_id or given or own


def store_of(workflow: WorkflowObject, defaults: Defaults) -> StoreRef | None:
    """Where the object's log lies: what status says, else spec, else the operator's default; one root a namespace.

    Returns:
        None where nobody names a storage.
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
    """The run that status names, with this object as the one who acts on it."""
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


def head_to_ask(workflow: WorkflowObject, named: ClusterView | None) -> HeadRef | None:
    """The head to ask about the submission: the one that status names, while it runs; None where it does not."""
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
