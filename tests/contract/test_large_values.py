"""Large values are freed at once after a write or a read, without the garbage collector, even if the call failed.

A value may take half of the memory of a machine.
"""

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

FAULTS = {
    "no fault": {},
    "lost reply to a PUT": {"PUT": lossy.LOST_REPLY},
    "server busy during a PUT": {"PUT": lossy.BUSY},
    "broken HEAD": {"HEAD": lossy.LOST_REPLY},
    "broken GET": {"GET": lossy.CUT_REPLY},
}


@pytest.fixture
def garbage_collector_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def proxy(minio_server: MinioServer) -> Iterator[LossyProxy]:
    with LossyProxy(minio_server.port) as running:
        yield running


def mark_nothing(obj: object) -> None:
    """Leave every object in the pickle."""


def refuse_mark(kind: str, name: str) -> object:
    raise AssertionError(f"the pickle contains an unexpected mark: {kind} {name}")


def store_array(blobs: Blobs) -> tuple[Value, weakref.ref[object]]:
    array = np.arange(500_000)
    return blobs.store_value(values.dumps(array, mark_nothing)), weakref.ref(array)


def load_array(blobs: Blobs, value: Value) -> tuple[weakref.ref[object], weakref.ref[object]]:
    fetched = blobs.load_value(value)
    array = values.loads(fetched, refuse_mark)
    assert array[-1] == 499_999
    return weakref.ref(array), weakref.ref(fetched)


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_large_values_are_freed_at_once(
    minio_server: MinioServer,
    bucket: str,
    proxy: LossyProxy,
    garbage_collector_off: None,
    faults: dict[str, lossy.Fault],
) -> None:
    address = address_of(minio_server, bucket)
    bare = S3Store(
        S3Address(address.bucket, address.prefix, proxy.endpoint, address.region), credentials_of(minio_server)
    )
    blobs = Blobs(RetryingStore(bare, sleep=lambda seconds: None), RunPaths("w", 1, "u" * 32))
    for method, fault in faults.items():
        proxy.inject(method, fault)
    value, stored = store_array(blobs)
    assert stored() is None
    for reference in load_array(blobs, value):
        assert reference() is None
    bare.close()
