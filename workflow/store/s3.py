"""A store in a bucket of an S3-compatible server, through minio-py.

minio-py cannot send a condition with `put_object`, so a create is a PUT to an address it presigned, with
`If-None-Match: *`. The put id travels in that address as the object's metadata, which signs it. minio-py's own pool
would try a PUT again by itself; this one never does: only `RetryingStore` knows what a repeated create means.
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
from minio.error import InvalidResponseError, S3Error

from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.store.key_rules import check_key
from workflow.store.port import Allocate, Data, ObjectInfo
from workflow.store.s3_errors import Busy, Place, translated

_MARK: Final = "x-amz-meta-put-id"
_CONNECTIONS: Final = 64
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=15.0)
_SIGNED_FOR: Final = timedelta(minutes=15)
_BLOCK: Final = 1 << 20
_SHOWN_OF_ANSWER: Final = 300
_GIVEN_UP: Final = 499
"""A server that is told to end, MinIO among them, answers so to the requests it has begun, done or not."""

_CANNOT_NOW: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, _GIVEN_UP}
)


def _is_missing(error: S3Error) -> bool:
    """Whether it says only that there is no such object.

    The error stands in a frame that it stands for, a circle. Without its traceback the frames below and above go at
    once, and not when garbage is collected: they may hold a large value.
    """
    if error.code != "NoSuchKey":
        return False
    error.__traceback__ = None
    return True


def _denied(error: BaseException) -> bool:
    return isinstance(error, S3Error) and error.code == "AccessDenied"


_INSISTENT: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_denied),
    stop=tenacity.stop_after_attempt(5),
    wait=tenacity.wait_random(0.0, 0.05),
    reraise=True,
)
"""MinIO denies access to a writer whose folder goes away with the last key that another removes from it (a race like
minio#15157): a denial counts only where it is repeated."""


@dataclass(frozen=True, slots=True)
class S3Address:
    """Where the bucket is.

    Attributes:
        bucket: its name.
        prefix: empty, or parts joined by `/`: the store's root in the bucket.
        endpoint: `http://host:port` or `https://host`.
        region: as the server calls it.
    """

    bucket: str
    prefix: str
    endpoint: str
    region: str

    @property
    def url(self) -> str:
        """The address `open_store` takes."""
        path = f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket
        return f"s3://{path}?{urlencode({'endpoint': self.endpoint, 'region': self.region}, safe=':/')}"


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Who asks."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class S3Store:
    """A store below a prefix of a bucket.

    Args:
        address: where.
        credentials: who asks.
        timeout: for one request; by default 5 s to connect and 15 s without a byte.
    """

    def __init__(self, address: S3Address, credentials: S3Credentials, timeout: urllib3.Timeout = _TIMEOUT) -> None:
        self._address = address
        self._root = f"{address.prefix}/" if address.prefix else ""
        self._pool = _Pool(maxsize=_CONNECTIONS, retries=False, timeout=timeout)
        scheme, _, host = address.endpoint.partition("://")
        self._client = Minio(
            host,
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            session_token=credentials.session_token,
            secure=scheme == "https",
            region=address.region,
            http_client=self._pool,
        )

    @property
    def url(self) -> str:
        """The whole address, with the endpoint and the region in use."""
        return self._address.url

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        check_key(key)
        with translated(self._place("create", key)):
            if _INSISTENT(self._put, key, data, {_MARK: put_id}, {"If-None-Match": "*"}):
                return True
            there = self._stat(key)
        if there is None:
            raise StoreUnavailableError(f"{key} was removed while it was created; try again", key=key)
        return there.get(_MARK) == put_id

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        check_key(key)
        with translated(self._place("write", key)):
            _INSISTENT(self._put, key, data, {}, {})

    def get(self, key: str) -> bytes | None:
        """See the port."""
        check_key(key)
        with translated(self._place("read", key)), self._opened(key) as response:
            return None if response is None else response.read()

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port."""
        check_key(key)
        with translated(self._place("read", key)), self._opened(key) as response:
            if response is None:
                return False
            size = response.headers.get("content-length")
            if size is None:
                raise StoreRefusedError(f"{self._address.endpoint} sends no Content-Length header with {key}", key=key)
            room = allocate(int(size))
            at = 0
            for block in response.stream(_BLOCK):
                room[at : at + len(block)] = block
                at += len(block)
        return True

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        check_key(key)
        with translated(self._place("look at", key)):
            headers = self._stat(key)
        if headers is None:
            return None
        written, now = headers.get("last-modified"), headers.get("date")
        if not written or not now:
            raise StoreRefusedError(
                f"{self._address.endpoint} sends no Last-Modified or no Date header, so ages cannot be known", key=key
            )
        age = (parsedate_to_datetime(now) - parsedate_to_datetime(written)).total_seconds()
        return ObjectInfo(key, int(headers.get("content-length", "0")), max(0.0, age))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port."""
        place = self._place("list", prefix)
        found = self._client.list_objects(
            self._address.bucket,
            prefix=self._root + prefix,
            recursive=True,
            start_after=self._root + start_after if start_after else None,
        )
        while True:
            with translated(place):
                entry = next(found, None)
            if entry is None:
                return
            key = str(entry.object_name).removeprefix(self._root)
            if key.endswith("/"):  # consoles make such an object where somebody makes a folder
                continue
            age = (self._pool.now - entry.last_modified).total_seconds()
            yield ObjectInfo(key, entry.size, max(0.0, age))

    def delete(self, key: str) -> None:
        """See the port."""
        check_key(key)
        with translated(self._place("remove", key)):
            self._client.remove_object(self._address.bucket, self._root + key)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def _place(self, doing: str, key: str) -> Place:
        return Place(doing, f"s3://{self._address.bucket}/{self._root}{key}", self._address.endpoint)

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
        """Send the object; False where the condition in the headers did not hold."""
        address = self._client.get_presigned_url(
            "PUT", self._address.bucket, self._root + key, expires=_SIGNED_FOR, extra_query_params=signed
        )
        response = self._pool.urlopen(
            "PUT", address, body=_blocks(data), headers={**headers, "Content-Length": str(len(data))}
        )
        if response.status == HTTPStatus.PRECONDITION_FAILED:
            return False
        if response.status != HTTPStatus.OK:
            if "xml" not in response.headers.get("content-type", ""):
                shown = response.data[:_SHOWN_OF_ANSWER].decode(errors="replace")
                raise InvalidResponseError(response.status, response.headers.get("content-type"), shown)
            raise S3Error.fromxml(response)
        return True


class _Pool(urllib3.PoolManager):
    """Connections that know the server's clock, and tell "not now" from an answer.

    Attributes:
        now: the server's clock at its last answer. Lists carry ages, but minio-py keeps the Date header of a list's
            answer to itself.
    """

    now: datetime

    def urlopen(self, method: str, url: str, *args: Any, **options: Any) -> Any:
        response = super().urlopen(method, url, *args, **options)
        date = response.headers.get("date")
        if date:
            self.now = parsedate_to_datetime(date)
        status = response.status
        if status in _CANNOT_NOW or (
            status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
        ):
            shown = response.data[:_SHOWN_OF_ANSWER].decode(errors="replace")
            raise Busy(f"the answer was HTTP {status} {shown}".rstrip())
        return response


def _blocks(data: Data) -> bytes | Iterator[memoryview]:
    """Large data in blocks: a timeout counts for one `send`, and must not depend on how large the whole is."""
    if isinstance(data, bytes) and len(data) <= _BLOCK:
        return data
    pieces = (data,) if isinstance(data, bytes) else data
    return (memoryview(piece)[start : start + _BLOCK] for piece in pieces for start in range(0, len(piece), _BLOCK))
