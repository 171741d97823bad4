"""The proof that the processes of a run see the same store.

An address can lead to another store on another node: a folder that is not shared, or a host name that means another
server there. The manager stores its heartbeat, whose key no other process writes. A driver and each worker look for it
once, before they use the store for this manager. A process that does not find it sees another store.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import ray

from workflow.engine.messages import StoreWitness
from workflow.engine.worker.run_values import shared_store
from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.log import keys

logger = logging.getLogger(__name__)

_SHARED_FOLDER = (
    "use a folder that all nodes mount at this path, for example over NFS, or a bucket (s3://bucket/prefix); "
    "docs/stores.md, section Several nodes"
)
_SHARED_SERVER = "use an endpoint that leads to the same server from all nodes; docs/stores.md, section Several nodes"
_CREDENTIALS = (
    "give the cluster credentials: in the environment of its nodes, or with "
    "ray.init(runtime_env={'env_vars': {...}}); docs/stores.md, section Credentials"
)

_proven: set[tuple[str, str]] = set()
"""(address of the store, id of the manager) that this process has proven."""


def node_here() -> str:
    """Return the node of this process, as error texts name it."""
    node_id = ray.get_runtime_context().get_node_id()
    addresses = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == node_id]
    return f"{(addresses or ['unknown'])[0]} ({socket.gethostname()})"


def is_proven(store_url: str, manager_id: str) -> bool:
    """Return whether this process has seen the heartbeat of a manager in a store."""
    return (store_url, manager_id) in _proven


def has_proof(store_url: str) -> bool:
    """Return whether this process has seen the heartbeat of any manager in a store."""
    return any(url == store_url for url, _ in _proven)


def prove(witness: StoreWitness, show_again: Callable[[], object], process: str) -> None:
    """Check that this process sees the heartbeat that a manager stored. Costs one request, once per manager.

    Args:
        witness: what the manager stored, and where the manager runs.
        show_again: lets the manager store its heartbeat again, in case that it was removed.
        process: this process, as the error names it, for example `the worker`.

    Raises:
        StoreRefusedError: this process sees another store, or may not use the store.
        StoreUnavailableError: the store does not respond to this process.
    """
    if is_proven(witness.store_url, witness.manager_id):
        return
    store, heartbeat = shared_store(witness.store_url), keys.heartbeat(witness.manager_id)
    try:
        found = store.head(heartbeat) is not None
        if not found:
            show_again()
            found = store.head(heartbeat) is not None
    except (StoreRefusedError, StoreUnavailableError) as error:
        raise unusable(error, process, node_here(), witness.store_url) from error
    if not found:
        raise StoreRefusedError(different(witness, process, node_here()), store=witness.store_url)
    _proven.add((witness.store_url, witness.manager_id))


def prove_worker(witness: StoreWitness, manager: object) -> None:
    """Check that this worker sees the store of its manager; see `prove`.

    If the store does not respond, it is not known whether it is the same. The worker continues, and its steps wait for
    the store.

    Raises:
        StoreRefusedError: this worker sees another store, or may not use the store.
    """
    try:
        prove(witness, lambda: ray.get(manager.show_store.remote()), "the worker")  # type: ignore[attr-defined]
    except StoreUnavailableError as error:
        logger.warning("%s", error)


def different(witness: StoreWitness, process: str, node: str) -> str:
    """Return the text for a process that sees another store than a manager."""
    remedy = _SHARED_SERVER if witness.store_url.startswith("s3://") else _SHARED_FOLDER
    return (
        f"cannot use the store {witness.store_url}: {process} on node {node} does not see there what the manager on "
        f"node {witness.node} stored, so the address leads to two different stores; {remedy}"
    )


def unusable(
    error: StoreRefusedError | StoreUnavailableError, process: str, node: str, store_url: str
) -> StoreRefusedError | StoreUnavailableError:
    """Return the error of a store with the process and the node that cannot use it."""
    text = f"{process} on node {node} cannot use the store {store_url}, which other processes can use: {error}"
    if error.fields.get("credentials"):
        text += f"; {_CREDENTIALS}"
    return type(error)(text, **error.fields)
