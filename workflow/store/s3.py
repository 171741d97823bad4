"""A store in a bucket of an S3-compatible server, through minio-py.

minio-py cannot send a condition with `put_object`. A create is therefore a PUT to a presigned URL, with the header
`If-None-Match: *`. The put id is object metadata in that URL, so the signature covers it.

The connection pool of minio-py repeats a PUT by itself. The pool here never does, because only `RetryingStore` knows
what a repeated create means.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import tenacity
import urllib3
from minio import Minio
from minio.credentials.providers import Provider, StaticProvider
from minio.error import InvalidResponseError, S3Error

from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.store.key_rules import check_key
from workflow.store.port import Allocate, Data, ObjectInfo
from workflow.store.s3_errors import RequestContext, ServerBusy, translate_errors

_PUT_ID_HEADER: Final = "x-amz-meta-put-id"
_CONNECTIONS: Final = 64
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=15.0)
_PRESIGNED_FOR: Final = timedelta(minutes=15)
_BLOCK: Final = 1 << 20
_SHOWN_OF_RESPONSE: Final = 300
_CLIENT_CLOSED_REQUEST: Final = 499
"""A server that shuts down (MinIO, for example) gives this status to requests in progress, whether done or not."""

_RETRYABLE_STATUSES: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, _CLIENT_CLOSED_REQUEST}
)


def _is_missing(error: S3Error) -> bool:
    """Return whether the error means that there is no such object.

    The traceback of the error refers to a frame that refers to the error. Removing the traceback breaks this cycle.
    A large value in one of the frames is then freed at once, without waiting for the garbage collector.
    """
    if error.code != "NoSuchKey":
        return False
    error.__traceback__ = None
    return True


def _is_denied(error: BaseException) -> bool:
    return isinstance(error, S3Error) and error.code == "AccessDenied"


_retry_denied: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_is_denied),
    stop=tenacity.stop_after_attempt(5),
    wait=tenacity.wait_random(0.0, 0.05),
    reraise=True,
)
"""Repeats a call that was denied; only a repeated denial counts.

MinIO denies access to a writer while a concurrent delete removes the last key in the same folder (like minio#15157).
"""


@dataclass(frozen=True, slots=True)
class S3Address:
    """The address of a store in a bucket.

    Attributes:
        bucket: name of the bucket.
        prefix: root of the store in the bucket: parts joined by `/`, or empty.
        endpoint: `http://host:port` or `https://host`.
        region: name of the region that the server expects.
    """

    bucket: str
    prefix: str
    endpoint: str
    region: str

    @property
    def url(self) -> str:
        """The address for `open_store`."""
        path = f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket
        return f"s3://{path}?{urlencode({'endpoint': self.endpoint, 'region': self.region}, safe=':/')}"


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """The credentials with which requests are signed."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def _static(keys: S3Credentials) -> Provider:
    return StaticProvider(keys.access_key, keys.secret_key, keys.session_token)


class S3Store:
    """A store below a prefix of a bucket. `workflow.store.Store` documents its methods.

    Args:
        address: bucket, prefix, endpoint and region.
        credentials: keys that may get, put, delete and list below the prefix, or a provider of such keys. A provider is
            asked before each request.
        timeout: limits for one request. The default is 5 s to connect and 15 s without receiving a byte.
    """

    def __init__(
        self, address: S3Address, credentials: S3Credentials | Provider, timeout: urllib3.Timeout = _TIMEOUT
    ) -> None:
        self._address = address
        self._root = f"{address.prefix}/" if address.prefix else ""
        self._pool = _Pool(maxsize=_CONNECTIONS, retries=False, timeout=timeout)
        scheme, _, host = address.endpoint.partition("://")
        self._client = Minio(
            host,
            credentials=credentials if isinstance(credentials, Provider) else _static(credentials),
            secure=scheme == "https",
            region=address.region,
            http_client=self._pool,
        )

    @property
    def url(self) -> str:
        """The full address, with the endpoint and the region in use."""
        return self._address.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        check_key(key)
        with translate_errors(self._context("create", key)):
            if _retry_denied(self._put, key, data, {_PUT_ID_HEADER: put_id}, {"If-None-Match": "*"}):
                return True
            existing = self._stat(key)
        if existing is None:
            raise StoreUnavailableError(
                f"cannot create {key!r}: another process removed it at the same time; try again", key=key
            )
        return existing.get(_PUT_ID_HEADER) == put_id

    def overwrite(self, key: str, data: bytes) -> None:
        check_key(key)
        with translate_errors(self._context("write", key)):
            _retry_denied(self._put, key, data, {}, {})

    def get(self, key: str) -> bytes | None:
        check_key(key)
        with translate_errors(self._context("read", key)), self._opened(key) as response:
            return None if response is None else response.read()

    def fetch(self, key: str, allocate: Allocate) -> bool:
        check_key(key)
        with translate_errors(self._context("read", key)), self._opened(key) as response:
            if response is None:
                return False
            size = response.headers.get("content-length")
            if size is None:
                raise StoreRefusedError(
                    f"cannot read {key!r}: {self._address.endpoint} sends no Content-Length header; "
                    "use a server that docs/stores.md names",
                    key=key,
                )
            buffer = allocate(int(size))
            position = 0
            for block in response.stream(_BLOCK):
                buffer[position : position + len(block)] = block
                position += len(block)
        return True

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        with translate_errors(self._context("look at", key)):
            headers = self._stat(key)
        if headers is None:
            return None
        written, now = headers.get("last-modified"), headers.get("date")
        if not written or not now:
            raise StoreRefusedError(
                f"cannot compute the age of {key!r}: {self._address.endpoint} sends no Last-Modified or Date header; "
                "use a server that docs/stores.md names",
                key=key,
            )
        age = (parsedate_to_datetime(now) - parsedate_to_datetime(written)).total_seconds()
        return ObjectInfo(key, int(headers.get("content-length", "0")), max(0.0, age))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        context = self._context("list", prefix)
        found = self._client.list_objects(
            self._address.bucket,
            prefix=self._root + prefix,
            recursive=True,
            start_after=self._root + start_after if start_after else None,
        )
        while True:
            with translate_errors(context):
                entry = next(found, None)
            if entry is None:
                return
            key = str(entry.object_name).removeprefix(self._root)
            if key.endswith("/"):  # S3 consoles create such an object when a user creates a folder
                continue
            age = (self._pool.server_time - entry.last_modified).total_seconds()
            yield ObjectInfo(key, entry.size, max(0.0, age))

    def delete(self, key: str) -> None:
        check_key(key)
        with translate_errors(self._context("remove", key)):
            self._client.remove_object(self._address.bucket, self._root + key)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def _context(self, operation: str, key: str) -> RequestContext:
        return RequestContext(operation, f"s3://{self._address.bucket}/{self._root}{key}", self._address.endpoint)

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[urllib3.BaseHTTPResponse | None]:
        try:
            response = self._client.get_object(self._address.bucket, self._root + key)
        except S3Error as error:
            if not _is_missing(error):
                raise
            response = None
        if response is None:
            yield None
            return
        try:
            yield response
        finally:
            response.close()
            response.release_conn()

    def _stat(self, key: str) -> dict[str, str] | None:
        try:
            found = self._client.stat_object(self._address.bucket, self._root + key)
        except S3Error as error:
            if not _is_missing(error):
                raise
            return None
        return {name.lower(): value for name, value in (found.metadata or {}).items()}

    def _put(self, key: str, data: Data, signed: dict[str, Any], headers: dict[str, str]) -> bool:
        """Send the object. Return False if the condition in the headers was not met."""
        address = self._client.get_presigned_url(
            "PUT", self._address.bucket, self._root + key, expires=_PRESIGNED_FOR, extra_query_params=signed
        )
        response = self._pool.urlopen(
            "PUT", address, body=_in_blocks(data), headers={**headers, "Content-Length": str(len(data))}
        )
        if response.status == HTTPStatus.PRECONDITION_FAILED:
            return False
        if response.status != HTTPStatus.OK or "etag" not in response.headers:
            if "xml" not in response.headers.get("content-type", ""):
                shown = response.data[:_SHOWN_OF_RESPONSE].decode(errors="replace")
                raise InvalidResponseError(response.status, response.headers.get("content-type"), shown)
            raise S3Error.fromxml(response)
        return True


class _Pool(urllib3.PoolManager):
    """A connection pool that keeps the time of the server and raises `ServerBusy` for statuses that a retry may fix.

    Attributes:
        server_time: the Date header of the last response. The age of listed objects is computed from it, because
            minio-py does not return the headers of a list response.
    """

    server_time: datetime

    def urlopen(self, method: str, url: str, *args: Any, **options: Any) -> Any:
        response = super().urlopen(method, url, *args, **options)
        date = response.headers.get("date")
        if date:
            self.server_time = parsedate_to_datetime(date)
        status = response.status
        if status in _RETRYABLE_STATUSES or (
            status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
        ):
            shown = response.data[:_SHOWN_OF_RESPONSE].decode(errors="replace")
            raise ServerBusy(f"the response was HTTP {status} {shown}".rstrip())
        return response


def _in_blocks(data: Data) -> bytes | Iterator[memoryview]:
    """Split large data into blocks. The timeout is for one `send`, so it must not depend on the size of the data."""
    if isinstance(data, bytes) and len(data) <= _BLOCK:
        return data
    pieces = (data,) if isinstance(data, bytes) else data
    return (memoryview(piece)[start : start + _BLOCK] for piece in pieces for start in range(0, len(piece), _BLOCK))
