"""Opens the store at an address. This is the only module that knows all kinds of stores.

`workflow.init`, the manager, the workers and the operator call it.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from workflow.errors import InvalidInputError
from workflow.store.credentials import CredentialsChain
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
"""Parameters after the `?` of an address, also under their names in Ray 1.x -> option."""

_SET_CREDENTIALS: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def open_store(url: str, *, access_key: str | None = None, secret_key: str | None = None) -> Store:
    """Open the store at an address. This sends no request.

    Args:
        url: `s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1`, `file:///folder`, a path, or
            `memory://name`. The endpoint defaults to `AWS_ENDPOINT_URL`, then to AWS. The region defaults to
            `AWS_REGION`, then to `AWS_DEFAULT_REGION`, then to `us-east-1`.
        access_key: access key for S3. The default is `AWS_ACCESS_KEY_ID`.
        secret_key: secret key for S3. The default is `AWS_SECRET_ACCESS_KEY`. If neither key is given, the credentials
            come from the first source that `workflow.store.credentials` finds, and are refreshed before they expire.

    Returns:
        The store, which retries each unavailable call for 30 seconds.

    Raises:
        InvalidInputError: the address is wrong or contains credentials. The text names what to change.
        StoreRefusedError: the prefix is not a valid key.
    """
    return RetryingStore(_open_plain(url, access_key, secret_key))


def _open_plain(url: str, access_key: str | None, secret_key: str | None) -> Store:
    if "://" not in url:
        if not url:
            raise InvalidInputError(f"cannot open the store: its address is empty; use {KINDS}")
        return FolderStore(os.path.abspath(os.path.expanduser(url)))
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        return FolderStore(_folder_of(url))
    if scheme == "memory":
        name = url.partition("://")[2].strip("/")
        if not name:
            raise InvalidInputError("cannot open the store 'memory://': the name is missing; use memory://name")
        return MemoryStore.named(name)
    if scheme == "s3":
        return S3Store(_s3_address(url), _s3_credentials(access_key, secret_key))
    raise InvalidInputError(f"cannot open the store: no kind of store is called {scheme!r}; use {KINDS}")


def _folder_of(url: str) -> str:
    parts = _split(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise InvalidInputError(
            f"cannot open the store {url!r}: it is not a folder of this machine; use file:///folder, with three slashes"
        )
    return os.path.normpath(unquote(parts.path))


def _s3_address(url: str) -> S3Address:
    parts = _split(url)
    if "@" in parts.netloc:
        raise InvalidInputError(
            f"cannot open the store: its address contains credentials; remove them, and {_SET_CREDENTIALS}"
        )
    given = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    unknown = sorted(set(given) - set(_OPTIONS))
    if unknown or parts.fragment:
        # The values are not shown, because a user may have put a secret there.
        what = ", ".join(repr(name) for name in unknown) or "a part after '#'"
        raise InvalidInputError(
            f"cannot open the store s3://{parts.netloc}{parts.path}: its address contains {what}; "
            f"use only 'endpoint' and 'region', and for credentials {_SET_CREDENTIALS}"
        )
    options = {_OPTIONS[name]: value for name, value in given.items()}
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidInputError(
            f"cannot open the store: {parts.netloc!r} is not a bucket name; use s3://bucket/prefix in lower case"
        )
    prefix = parts.path.strip("/")
    if prefix:
        check_key(prefix)
    if len(prefix.encode()) > _LONGEST_PREFIX:
        raise InvalidInputError(
            f"cannot open the store: the prefix {prefix!r} is longer than {_LONGEST_PREFIX} bytes; shorten it"
        )
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or _AWS
    return S3Address(parts.netloc, prefix, _endpoint(endpoint), region or _AWS_REGION)


def _endpoint(endpoint: str) -> str:
    parts = _split(endpoint)
    if "@" in parts.netloc:
        raise InvalidInputError(
            f"cannot open the store: its endpoint contains credentials; remove them, and {_SET_CREDENTIALS}"
        )
    if parts.scheme not in ("http", "https") or not _has_host(parts) or parts.path.strip("/") or parts.query:
        raise InvalidInputError(
            f"cannot open the store: {endpoint!r} is not an endpoint; use http://host:port or https://host"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # the URL is not shown, because it may contain credentials
        raise InvalidInputError(
            f"cannot open the store: its address or endpoint is not a URL: {error}; write an IPv6 address in brackets, "
            "for example http://[fd00::1]:9000"
        ) from error


def _has_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        return False


def _s3_credentials(access_key: str | None, secret_key: str | None) -> S3Credentials | CredentialsChain:
    if not access_key and not secret_key:
        return CredentialsChain()
    access_key = access_key or os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = secret_key or os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        missing = "access key" if not access_key else "secret key"
        raise InvalidInputError(f"cannot open the store: its {missing} is missing; {_SET_CREDENTIALS}")
    return S3Credentials(access_key, secret_key)
