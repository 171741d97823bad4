"""From an address to a store.

Called by the library's `init`, its manager, the command line and the operator: the one place that knows the kinds of
stores.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from workflow.errors import InvalidInputError
from workflow.store.folder import FolderStore
from workflow.store.key_rules import check_key
from workflow.store.memory import MemoryStore
from workflow.store.port import Store
from workflow.store.retrying import RetryingStore
from workflow.store.s3 import S3Address, S3Credentials, S3Store

KINDS: Final = "s3://bucket/prefix?endpoint=http://host:9000, file:///folder, a path, or memory://name"
_AWS: Final = "https://s3.amazonaws.com"
_AWS_REGION: Final = "us-east-1"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_PREFIX: Final = 200
_OPTIONS: Final = {"endpoint": "endpoint", "endpoint_url": "endpoint", "region": "region", "region_name": "region"}
"""What may stand behind the `?` of an address, also by the names of Ray 1.x -> what it says."""

_WHERE_CREDENTIALS_GO: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def open_store(url: str, *, access_key: str | None = None, secret_key: str | None = None) -> Store:
    """Open the store at an address; sends no request.

    Args:
        url: `s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1` (endpoint and region default to
            `AWS_ENDPOINT_URL` and `AWS_REGION`, then to those of AWS), `file:///folder`, a path, or `memory://name`.
        access_key: for S3; default `AWS_ACCESS_KEY_ID`.
        secret_key: for S3; default `AWS_SECRET_ACCESS_KEY`. `AWS_SESSION_TOKEN` counts where neither is given.

    Returns:
        The store, which tries again for 30 seconds where an answer fails to come.

    Raises:
        Invalid: the address is wrong, or holds credentials; the text says what to change.
    """
    return RetryingStore(_open_plain(url, access_key, secret_key))


def _open_plain(url: str, access_key: str | None, secret_key: str | None) -> Store:
    if "://" not in url:
        if not url:
            raise InvalidInputError(f"the store's address is empty; give {KINDS}")
        return FolderStore(os.path.abspath(os.path.expanduser(url)))
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        return FolderStore(_folder_of(url))
    if scheme == "memory":
        name = url.partition("://")[2].strip("/")
        if not name:
            raise InvalidInputError("memory:// lacks a name; give memory://name")
        return MemoryStore.named(name)
    if scheme == "s3":
        return S3Store(_s3_address(url), _s3_credentials(access_key, secret_key))
    raise InvalidInputError(f"no kind of store is called {scheme!r}; give {KINDS}")


def _folder_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise InvalidInputError(
            f"{url!r} does not name a folder of this machine; give file:///folder, with three slashes"
        )
    return os.path.normpath(unquote(parts.path))


def _s3_address(url: str) -> S3Address:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidInputError("the store's address holds credentials; take them out, " + _WHERE_CREDENTIALS_GO)
    given = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    unknown = sorted(set(given) - set(_OPTIONS))
    if unknown or parts.fragment:
        # Values are not shown: they may be what somebody took for the place of a secret.
        what = ", ".join(repr(name) for name in unknown) or "a part behind '#'"
        raise InvalidInputError(
            f"the address of s3://{parts.netloc}{parts.path} holds {what}; it takes 'endpoint' and 'region', "
            f"and credentials stand elsewhere: {_WHERE_CREDENTIALS_GO}"
        )
    options = {_OPTIONS[name]: value for name, value in given.items()}
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidInputError(
            f"{parts.netloc!r} cannot be a bucket's name; give s3://bucket/prefix, the bucket in lower case"
        )
    prefix = parts.path.strip("/")
    if prefix:
        check_key(prefix)
    if len(prefix.encode()) > _LONGEST_PREFIX:
        raise InvalidInputError(f"the prefix {prefix!r} is longer than {_LONGEST_PREFIX} bytes; shorten it")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or _AWS
    return S3Address(parts.netloc, prefix, _endpoint(endpoint), region or _AWS_REGION)


def _endpoint(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise InvalidInputError("the endpoint of the store holds credentials; take them out, " + _WHERE_CREDENTIALS_GO)
    if parts.scheme not in ("http", "https") or not _has_host(parts) or parts.path.strip("/") or parts.query:
        raise InvalidInputError(
            f"{endpoint!r} is no endpoint; give http://host:port or https://host, and nothing behind it"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _has_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def _s3_credentials(access_key: str | None, secret_key: str | None) -> S3Credentials:
    token = None if access_key or secret_key else os.environ.get("AWS_SESSION_TOKEN")
    access_key = access_key or os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = secret_key or os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        missing = "access key" if not access_key else "secret key"
        raise InvalidInputError(f"the {missing} of the S3 store is missing; {_WHERE_CREDENTIALS_GO}")
    return S3Credentials(access_key, secret_key, token or None)
