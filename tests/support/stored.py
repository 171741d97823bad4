"""The content of a store as keys and bytes, and the format of the objects of a log. Both are read without the library.

For `checker`, and for tests that damage objects. Imports nothing of the library: a folder is read file by file, a
bucket with a plain client.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from minio import Minio

FORMAT = "rayworkflow-log-1"
LONGEST_PART, KEPT_OF_LONG = 180, 110
TRAILER = 24
"""Bytes at the end of each file of a folder store: a digest of the put id, and a mark."""

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")

Fields = Mapping[str, Any]
Objects = Mapping[str, bytes]


class BrokenRuleError(AssertionError):
    """A promise is broken.

    Attributes:
        number: the promise.
        key: of the object that shows it.
    """

    def __init__(self, number: str, key: str, what: str, record: object = None) -> None:
        shown = "" if record is None else f"\n    record: {json.dumps(record)[:2000]}"
        super().__init__(f"{number}: {what}\n    key: {key}{shown}")
        self.number = number
        self.key = key


class _Info(Protocol):
    @property
    def key(self) -> str: ...


class _Listed(Protocol):
    def list(self, prefix: str, start_after: str = "") -> Iterable[_Info]: ...
    def get(self, key: str) -> bytes | None: ...


def in_folder(root: str | os.PathLike[str], below: str = "") -> dict[str, bytes]:
    """Return the objects of a folder store.

    Args:
        root: the folder of the store.
        below: only keys in this folder, in whole parts.
    """
    found = {}
    for folder, _, files in os.walk(os.path.join(root, below)):
        for name in files:
            if name.startswith("#"):  # a file of the store itself: a clock, or an unfinished write
                continue
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                data = file.read()
            key = os.path.relpath(path, root)
            if not data.endswith(b"rwf-put\n"):
                raise BrokenRuleError("format", key, f"a file of {len(data)} bytes without the end that a store writes")
            found[key] = data[:-TRAILER]
    return found


def in_memory(store: _Listed, below: str = "") -> dict[str, bytes]:
    """Return the objects of a store in this process."""
    return {info.key: store.get(info.key) or b"" for info in store.list(below)}


def in_bucket(client: Minio, bucket: str, prefix: str, below: str = "") -> dict[str, bytes]:
    """Return the objects of a store in a bucket. They must not change during the call.

    Args:
        client: a client with access to the bucket.
        bucket: name of the bucket.
        prefix: the root of the store in the bucket.
        below: return only objects whose keys start with this text.
    """
    found = {}
    for entry in client.list_objects(bucket, prefix=f"{prefix}/{below}", recursive=True):
        response = client.get_object(bucket, str(entry.object_name))
        try:
            found[str(entry.object_name).removeprefix(f"{prefix}/")] = response.read()
        finally:
            response.close()
            response.release_conn()
    return found


def escaped(workflow_id: str) -> str:
    """Return an id as one part of a key: percent-encoded UTF-8. A long one is shortened and ends with its SHA-256."""
    raw = workflow_id.encode("utf-8", "surrogatepass")
    part = "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in raw)
    return part if len(part) <= LONGEST_PART else f"{part[:KEPT_OF_LONG]}={hashlib.sha256(raw).hexdigest()}"


def parsed(key: str, data: bytes) -> tuple[Fields, list[Fields]]:
    """Return the header and the records of a registry entry, a segment or a snapshot.

    Raises:
        BrokenRuleError: the object is truncated or altered.
    """
    first, _, body = data.partition(b"\n")
    digest = _checksum(body)
    if first != f"{FORMAT} {digest}".encode():
        raise BrokenRuleError(
            "format", key, f"begins with {first[:100]!r}, but {len(body)} bytes have the checksum {digest}"
        )
    header, *records = [json.loads(line) for line in body.decode("ascii").split("\n")[:-1]]
    if header["records"] != len(records) or not header["put_id"]:
        raise BrokenRuleError("format", key, f"holds {len(records)} records", header)
    return header, records


def sealed(header: Fields, records: Iterable[Fields]) -> bytes:
    """Return an object of the log that `parsed` reads back; for tests that write a log by hand."""
    kept = list(records)
    lines = [json.dumps({"records": len(kept), **header}), *(json.dumps(record) for record in kept)]
    body = "".join(f"{line}\n" for line in lines).encode("ascii")
    return f"{FORMAT} {_checksum(body)}\n".encode() + body


def _checksum(body: bytes) -> str:
    return hashlib.sha256(f"{FORMAT}\n".encode() + body).hexdigest()
