"""Where this process keeps its workflows: what `init` was given, found again in tasks of the same job."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import ray
from ray.experimental import internal_kv

from workflow.engine.driver.client import Client
from workflow.engine.worker import context
from workflow.engine.worker.run_values import shared_store
from workflow.errors import WrongTypeError
from workflow.store.port import Store
from workflow.store.probe import probe

logger = logging.getLogger(__name__)

_KV_NAMESPACE = b"rayworkflow"


def init(storage: str | os.PathLike[str] | None = None) -> None:
    """Say where workflows are kept, and connect to Ray where that was not done.

    Args:
        storage: `s3://bucket/prefix?endpoint=https://host` (credentials from the environment), or a folder. None: what
            this job was given before, the environment's RAYWORKFLOW_STORAGE, or a folder under the user's state
            directory (`$XDG_STATE_HOME/rayworkflow`).

    Raises:
        StoreRefused: the store cannot keep a log; the text says which property it lacks.
        WrongType: it is neither a text nor a path. Invalid: no such kind of address.
    """
    if not ray.is_initialized():
        ray.init()
    if storage is None:
        storage = _known() or os.environ.get("RAYWORKFLOW_STORAGE") or _default_folder()
    url = shared_store(_absolute(storage)).url
    probe(shared_store(url))
    context.set_store(url)
    internal_kv._internal_kv_put(_kv_key(), url.encode(), namespace=_KV_NAMESPACE)
    logger.info("workflows are kept at %s", url)


def here() -> Client:
    """A client of the store in use."""
    return Client(store_in_use())


def store_in_use() -> Store:
    """Of the step that this thread executes; else what this job was given last; else what this process was; else made.

    A task looks at its job each time: its worker process may have served a task from before another `init`.
    """
    url = _known()
    if not url:
        init()
        url = context.store_url()
    return shared_store(url)


def _known() -> str:
    """Where this job, this process, or the step that this thread executes keeps workflows; empty: not said yet."""
    if context.current_step() is None and ray.is_initialized():
        known = internal_kv._internal_kv_get(_kv_key(), namespace=_KV_NAMESPACE)
        if known is not None:
            url: str = known.decode()
            return url
    return context.store_url()


def _kv_key() -> bytes:
    return f"storage/{ray.get_runtime_context().get_job_id()}".encode()


def _default_folder() -> str:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(state) / "rayworkflow")


def _absolute(storage: str | os.PathLike[str]) -> str:
    if not isinstance(storage, (str, os.PathLike)):
        raise WrongTypeError(f"storage is an address or a folder, as a text or a path, not {storage!r}")
    if not storage or "://" in str(storage):
        return str(storage)
    return str(Path(storage).expanduser().resolve())
