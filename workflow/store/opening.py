"""From an address to a store.

Called by the library's `init`, its manager, the command line and the operator: the one place that knows the kinds of
stores.
"""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from workflow.errors import Invalid
from workflow.store.folder import FolderStore
from workflow.store.memory import MemoryStore
from workflow.store.port import Store
from workflow.store.retrying import RetryingStore

KINDS = "s3://bucket/prefix?endpoint=http://host:9000, file:///folder, a path, or memory://name"


def open_store(url: str, *, access_key: str | None = None, secret_key: str | None = None) -> Store:
    """Open the store at an address; sends no request.

    Args:
        url: `s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1` (endpoint and region default to
            `AWS_ENDPOINT_URL` and `AWS_REGION`), `file:///folder`, a path, or `memory://name`.
        access_key: for S3; default `AWS_ACCESS_KEY_ID`.
        secret_key: for S3; default `AWS_SECRET_ACCESS_KEY`.

    Returns:
        The store, which tries again for 30 seconds where an answer fails to come.

    Raises:
        Invalid: the address is wrong, or holds credentials; the text says what to change.
    """
    return RetryingStore(_open_plain(url, access_key, secret_key))


def _open_plain(url: str, access_key: str | None, secret_key: str | None) -> Store:
    if "://" not in url:
        if not url:
            raise Invalid(f"the store's address is empty; give {KINDS}")
        return FolderStore(os.path.abspath(os.path.expanduser(url)))
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        return FolderStore(_folder_of(url))
    if scheme == "memory":
        name = url.partition("://")[2].strip("/")
        if not name:
            raise Invalid("memory:// lacks a name; give memory://name")
        return MemoryStore.named(name)
    raise Invalid(f"no kind of store is called {scheme!r}; give {KINDS}")


def _folder_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise Invalid(f"{url!r} does not name a folder of this machine; give file:///folder, with three slashes")
    return os.path.normpath(unquote(parts.path))
