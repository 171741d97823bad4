"""Tests of the S3 store with a proxy that loses replies: a lost reply never looks like a lost race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import urllib3

from dev.minio_server import MinioServer
from tests.support import lossy
from tests.support.lossy import Fault, LossyProxy
from tests.support.minio import address_of, credentials_of
from workflow.errors import StoreUnavailableError
from workflow.store import Store
from workflow.store.retrying import RetryingStore
from workflow.store.s3 import S3Store
from workflow.testing.store_contract import Scattered, fetched

QUICK = urllib3.Timeout(connect=5.0, read=0.5)
LOST_REPLIES = {
    "connection closed": lossy.LOST_REPLY,
    "503 from a gateway": lossy.GATEWAY_ERROR,
    "499 during shutdown": lossy.SHUTDOWN,
    "timeout": lossy.HANGING,
}
NOT_WRITTEN = {
    "connection closed": lossy.LOST_REQUEST,
    "503 from the server": lossy.BUSY,
    "409 for a concurrent write": lossy.CONFLICT,
}


@pytest.fixture
def proxy(minio_server: MinioServer) -> Iterator[LossyProxy]:
    with LossyProxy(minio_server.port) as running:
        yield running


@pytest.fixture
def bare(proxy: LossyProxy, minio_server: MinioServer, bucket: str) -> Iterator[S3Store]:
    """A store without retries, behind the proxy."""
    address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
    opened = S3Store(address, credentials_of(minio_server), QUICK)
    yield opened
    opened.close()


@pytest.fixture
def store(bare: S3Store) -> Store:
    """The same store with retries, but without waits between attempts."""
    return RetryingStore(bare, sleep=lambda seconds: None)


@pytest.fixture
def rival(minio_server: MinioServer, bucket: str) -> Iterator[S3Store]:
    """The same bucket without the proxy."""
    opened = S3Store(address_of(minio_server, bucket), credentials_of(minio_server))
    yield opened
    opened.close()


@pytest.mark.parametrize("loss", LOST_REPLIES.values(), ids=LOST_REPLIES)
def test_create_with_lost_reply_succeeds(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    proxy.inject("PUT", loss)
    assert store.create("log/1", b"mine", "put-mine") is True
    assert rival.get("log/1") == b"mine"
    assert [method for method, _ in proxy.requests] == ["PUT", "PUT", "HEAD"]


@pytest.mark.parametrize("loss", [*LOST_REPLIES.values(), *NOT_WRITTEN.values()], ids=[*LOST_REPLIES, *NOT_WRITTEN])
def test_retry_sends_the_same_pieces(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    pieces = Scattered(b"a" * 1_500_000, memoryview(bytearray(b"b" * 2_500_000)), b"end")
    proxy.inject("PUT", loss)
    assert store.create("blob", pieces, "put-mine") is True
    assert rival.get("blob") == b"".join(pieces)
    assert [method for method, _ in proxy.requests][:2] == ["PUT", "PUT"]


@pytest.mark.parametrize("loss", LOST_REPLIES.values(), ids=LOST_REPLIES)
def test_lost_reply_without_retries_is_unavailable(bare: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    proxy.inject("PUT", loss)
    with pytest.raises(StoreUnavailableError, match=r"cannot create s3://test-.*/some/prefix/log/1 at http://127"):
        bare.create("log/1", b"mine", "put-mine")
    assert rival.get("log/1") == b"mine"


@pytest.mark.parametrize("loss", LOST_REPLIES.values(), ids=LOST_REPLIES)
def test_rival_loses_to_a_writer_with_a_lost_reply(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    rival_won: list[bool] = []

    def create_as_rival() -> None:
        rival_won.append(rival.create("log/1", b"rival", "put-rival"))

    proxy.inject("PUT", replace(loss, before_reply=create_as_rival))
    assert store.create("log/1", b"mine", "put-mine") is True
    assert rival_won == [False]
    assert rival.get("log/1") == b"mine"


@pytest.mark.parametrize("loss", NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_retry_loses_to_a_rival_that_won_meanwhile(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    rival_won: list[bool] = []

    def create_as_rival() -> None:
        rival_won.append(rival.create("log/1", b"rival", "put-rival"))

    proxy.inject("PUT", replace(loss, before_reply=create_as_rival))
    assert store.create("log/1", b"mine", "put-mine") is False
    assert rival_won == [True]
    assert rival.get("log/1") == b"rival"


@pytest.mark.parametrize("loss", LOST_REPLIES.values(), ids=LOST_REPLIES)
def test_lost_reply_to_the_check_of_the_winner(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    proxy.inject("PUT", loss)
    proxy.inject("HEAD", loss, loss)
    assert store.create("log/1", b"mine", "put-mine") is True
    proxy.inject("HEAD", loss)
    assert store.create("log/1", b"mine", "put-other") is False
    assert rival.get("log/1") == b"mine"


CALLS: dict[str, tuple[str, Callable[[Store], object], object]] = {
    "get": ("GET", lambda store: store.get("log/1"), b"one" * 100),
    "fetch": ("GET", lambda store: fetched(store, "log/1"), b"one" * 100),
    "head": ("HEAD", lambda store: getattr(store.head("log/1"), "size", None), 300),
    "list": ("GET", lambda store: [info.key for info in store.list("log/")], ["log/1", "log/2"]),
    "delete": ("DELETE", lambda store: store.delete("log/2"), None),
    "overwrite": ("PUT", lambda store: store.overwrite("beat", b"1"), None),
}
ALL_FAULTS = {**LOST_REPLIES, "truncated reply": lossy.CUT_REPLY, "503 from the server": lossy.BUSY}


@pytest.mark.parametrize("fault", ALL_FAULTS.values(), ids=ALL_FAULTS)
@pytest.mark.parametrize("case", CALLS)
def test_every_call_survives_two_faults(store: Store, rival: Store, proxy: LossyProxy, fault: Fault, case: str) -> None:
    method, call, expected = CALLS[case]
    rival.create("log/1", b"one" * 100, "put-1")
    rival.create("log/2", b"two", "put-2")
    proxy.inject(method, fault, fault)
    assert call(store) == expected


def test_list_continues_after_a_lost_page(store: Store, rival: Store, proxy: LossyProxy) -> None:
    keys = [f"log/{number:020d}" for number in range(1_010)]
    for key in keys:
        rival.create(key, b"", "put-1")
    seen = []
    for info in store.list("log/"):
        seen.append(info.key)
        if len(seen) == 500:
            proxy.inject("GET", lossy.LOST_REPLY, lossy.CUT_REPLY)
    assert seen == keys


def test_ages_use_the_clock_of_the_server(store: Store, proxy: LossyProxy) -> None:
    store.create("beat", b"", "put-1")
    proxy.date_shift = timedelta(hours=2)
    info = store.head("beat")
    assert info is not None
    listed = list(store.list("beat"))
    for age in (info.age, listed[0].age):
        assert 7199 <= age < 7260  # a Date header has no fractions
    proxy.date_shift = timedelta(hours=-2)
    info = store.head("beat")
    assert info is not None
    assert info.age == 0
