"""The store that this process uses. `init` chooses it, and the Ray tasks of the same job use the same store."""

from __future__ import annotations

import logging
import os

import ray
from ray.experimental import internal_kv

from workflow.engine.driver.client import Client
from workflow.engine.driver.forked import refuse_after_fork
from workflow.engine.worker import context
from workflow.engine.worker.run_values import shared_store
from workflow.errors import WrongTypeError
from workflow.log import keys
from workflow.model.calls import checked_call
from workflow.store import locations
from workflow.store.port import Store
from workflow.store.probe import probe

logger = logging.getLogger(__name__)

_KV_NAMESPACE = b"rayworkflow"


@checked_call("workflow.init", "to give options of Ray, call ray.init(...) before workflow.init")
def init(storage: str | os.PathLike[str] | None = None, *, program: str = "") -> None:
    """Choose the store for workflows, and connect to Ray if this process is not connected.

    Args:
        storage: `s3://bucket/prefix?endpoint=https://host` (docs/stores.md, section Credentials), or a folder. If
            None, the first of these that exists: the store that this job used before, the environment variable
            RAYWORKFLOW_STORAGE or RAY_WORKFLOW_STORAGE, a default folder. The default is `$XDG_STATE_HOME/rayworkflow`
            or `~/.local/state/rayworkflow`.
        program: a name for this program. If it resumes a run that a program of the same name created, the remaining
            steps execute its code, wherever it runs. Without a name, this is so only for the same file on the same
            machine.

    Raises:
        StoreRefusedError: the store cannot hold a log; the text names the property that it lacks.
        StoreUnavailableError: the store does not respond within 30 seconds, or its address leads to another server.
        WrongTypeError: `storage` is neither a string nor a path, or `program` is not a string.
        InvalidInputError: `storage` is an address of an unknown kind, or this process was forked from a process that
            is connected to Ray.
    """
    refuse_after_fork()
    if not isinstance(program, str):
        raise WrongTypeError(f"program must be a name, as a string, not {program!r}")
    if not ray.is_initialized():
        ray.init()
    if storage is None:
        storage = _known_url() or _url_in_environment() or None
    is_default = storage is None
    url = shared_store(locations.absolute(locations.default_folder() if storage is None else storage)).url
    with locations.naming_the_choice(url, is_default):
        probe(shared_store(url), keys.PROBED_RUN, keys.PROBED_FOLDERS)
    context.set_store(url)
    context.set_program_name(program)
    internal_kv._internal_kv_put(_kv_key(), url.encode(), namespace=_KV_NAMESPACE)
    logger.info("workflows are stored at %s", url)


def client_in_use() -> Client:
    """Return a client of the store in use."""
    return Client(store_in_use())


def store_in_use() -> Store:
    """Return the store in use: that of the step that this thread executes, else of the job, else of the process.

    If none is known, `init` chooses one. The job's store is read at each call, because the driver may call `init` again
    with another store while this worker process lives.
    """
    refuse_after_fork()
    url = _known_url()
    if not url:
        init()
        url = context.store_url()
    return shared_store(url)


def _known_url() -> str:
    """Return the address of the store in use, in the order of `store_in_use`; empty if none is known."""
    if context.current_step() is None and ray.is_initialized():
        known = internal_kv._internal_kv_get(_kv_key(), namespace=_KV_NAMESPACE)
        if known is not None:
            url: str = known.decode()
            return url
    return context.store_url()


def _kv_key() -> bytes:
    return f"storage/{ray.get_runtime_context().get_job_id()}".encode()


def _url_in_environment() -> str:
    """Return the address in the environment, also under the name that Ray 1.12 uses; empty if there is none."""
    return os.environ.get(locations.VARIABLE) or os.environ.get("RAY_WORKFLOW_STORAGE") or ""
