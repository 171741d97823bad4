"""What was stored or fetched is let go at once, not when garbage is collected: it may be half of a machine's memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from dev.minio_server import MinioServer
from tests.support import lossy
from tests.support.lossy import LossyProxy
from tests.support.minio import address_of, credentials_of
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.model.graph import Value
from workflow.store.retrying import RetryingStore
from workflow.store.s3 import S3Address, S3Store

SPOILT = {
    "nothing": {},
    "a PUT whose answer is lost": {"PUT": lossy.LOST},
    "a PUT that the server cannot take now": {"PUT": lossy.BUSY},
    "a HEAD that breaks off": {"HEAD": lossy.LOST},
    "a GET that breaks off": {"GET": lossy.CUT},
}


@pytest.fixture
def without_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def proxy(minio_server: MinioServer) -> Iterator[LossyProxy]:
    with LossyProxy(minio_server.port) as running:
        yield running


def plain(obj: object) -> None:
    """Replaces nothing."""


def no_mark(kind: str, name: str) -> object:
    raise AssertionError(f"no mark was expected: {kind} {name}")


def kept(blobs: Blobs) -> tuple[Value, weakref.ref[object]]:
    array = np.arange(500_000)
    return blobs.store_value(values.dumps(array, plain)), weakref.ref(array)


def loaded(blobs: Blobs, value: Value) -> tuple[weakref.ref[object], weakref.ref[object]]:
    fetched = blobs.load_value(value)
    array = values.loads(fetched, no_mark)
    assert array[-1] == 499_999
    return weakref.ref(array), weakref.ref(fetched)


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_large_values_are_let_go(
    minio_server: MinioServer,
    bucket: str,
    proxy: LossyProxy,
    without_collection: None,
    spoilt: dict[str, lossy.Fault],
) -> None:
    address = address_of(minio_server, bucket)
    bare = S3Store(
        S3Address(address.bucket, address.prefix, proxy.endpoint, address.region), credentials_of(minio_server)
    )
    blobs = Blobs(RetryingStore(bare, sleep=lambda seconds: None), RunPaths("w", 1, "u" * 32))
    for method, fault in spoilt.items():
        proxy.spoil(method, fault)
    value, stored = kept(blobs)
    assert stored() is None
    for reference in loaded(blobs, value):
        assert reference() is None
    bare.close()
