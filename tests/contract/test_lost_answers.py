"""An answer that is lost on the way is not a lost race: S3 behind a proxy that loses them."""

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
LOSSES = {
    "connection closed": lossy.LOST,
    "503 from a gateway": lossy.BUSY_THOUGH_DONE,
    "499, the server is told to end": lossy.ENDING_THOUGH_DONE,
    "no answer in time": lossy.HANGING,
}
NOT_DONE = {
    "connection closed": lossy.NEVER_ARRIVED,
    "503 from the server": lossy.BUSY,
    "409, another writer at once": lossy.IN_CONFLICT,
}


@pytest.fixture
def proxy(minio_server: MinioServer) -> Iterator[LossyProxy]:
    with LossyProxy(minio_server.port) as running:
        yield running


@pytest.fixture
def bare(proxy: LossyProxy, minio_server: MinioServer, bucket: str) -> Iterator[S3Store]:
    """A store that does not try again, behind the proxy."""
    address = replace(address_of(minio_server, bucket), endpoint=proxy.endpoint)
    opened = S3Store(address, credentials_of(minio_server), QUICK)
    yield opened
    opened.close()


@pytest.fixture
def store(bare: S3Store) -> Store:
    """The same as everybody has it, but it does not wait between tries."""
    return RetryingStore(bare, sleep=lambda seconds: None)


@pytest.fixture
def rival(minio_server: MinioServer, bucket: str) -> Iterator[S3Store]:
    """The same store, not behind the proxy."""
    opened = S3Store(address_of(minio_server, bucket), credentials_of(minio_server))
    yield opened
    opened.close()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_create_whose_answer_was_lost_went_through(
    store: Store, rival: Store, proxy: LossyProxy, loss: Fault
) -> None:
    proxy.spoil("PUT", loss)
    assert store.create("log/1", b"mine", "put-mine") is True
    assert rival.get("log/1") == b"mine"
    assert [method for method, _ in proxy.requests] == ["PUT", "PUT", "HEAD"]


@pytest.mark.parametrize("loss", [*LOSSES.values(), *NOT_DONE.values()], ids=[*LOSSES, *NOT_DONE])
def test_pieces_are_sent_once_more_as_they_were(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    pieces = Scattered(b"a" * 1_500_000, memoryview(bytearray(b"b" * 2_500_000)), b"end")
    proxy.spoil("PUT", loss)
    assert store.create("blob", pieces, "put-mine") is True
    assert rival.get("blob") == b"".join(pieces)
    assert [method for method, _ in proxy.requests][:2] == ["PUT", "PUT"]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_without_tries_the_writer_is_told_that_it_cannot_know(
    bare: Store, rival: Store, proxy: LossyProxy, loss: Fault
) -> None:
    proxy.spoil("PUT", loss)
    with pytest.raises(StoreUnavailableError, match=r"cannot create s3://test-.*/some/prefix/log/1 at http://127"):
        bare.create("log/1", b"mine", "put-mine")
    assert rival.get("log/1") == b"mine"


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_rival_is_told_that_it_lost_to_a_writer_that_does_not_know_yet(
    store: Store, rival: Store, proxy: LossyProxy, loss: Fault
) -> None:
    told: list[bool] = []
    proxy.spoil("PUT", replace(loss, meanwhile=lambda: told.append(rival.create("log/1", b"rival", "put-rival"))))
    assert store.create("log/1", b"mine", "put-mine") is True
    assert told == [False]
    assert rival.get("log/1") == b"mine"


@pytest.mark.parametrize("loss", NOT_DONE.values(), ids=NOT_DONE)
def test_a_writer_that_tries_again_after_a_rival_won_is_told_so(
    store: Store, rival: Store, proxy: LossyProxy, loss: Fault
) -> None:
    told: list[bool] = []
    proxy.spoil("PUT", replace(loss, meanwhile=lambda: told.append(rival.create("log/1", b"rival", "put-rival"))))
    assert store.create("log/1", b"mine", "put-mine") is False
    assert told == [True]
    assert rival.get("log/1") == b"rival"


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_question_who_won_may_get_lost_too(store: Store, rival: Store, proxy: LossyProxy, loss: Fault) -> None:
    proxy.spoil("PUT", loss)
    proxy.spoil("HEAD", loss, loss)
    assert store.create("log/1", b"mine", "put-mine") is True
    proxy.spoil("HEAD", loss)
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
ALL_FAULTS = {**LOSSES, "answer cut in the middle": lossy.CUT, "503 from the server": lossy.BUSY}


@pytest.mark.parametrize("fault", ALL_FAULTS.values(), ids=ALL_FAULTS)
@pytest.mark.parametrize("case", CALLS)
def test_every_call_outlives_a_bad_network(
    store: Store, rival: Store, proxy: LossyProxy, fault: Fault, case: str
) -> None:
    method, call, expected = CALLS[case]
    rival.create("log/1", b"one" * 100, "put-1")
    rival.create("log/2", b"two", "put-2")
    proxy.spoil(method, fault, fault)
    assert call(store) == expected


def test_a_list_goes_on_where_a_page_got_lost(store: Store, rival: Store, proxy: LossyProxy) -> None:
    keys = [f"log/{number:020d}" for number in range(1_010)]
    for key in keys:
        rival.create(key, b"", "put-1")
    seen = []
    for info in store.list("log/"):
        seen.append(info.key)
        if len(seen) == 500:
            proxy.spoil("GET", lossy.LOST, lossy.CUT)
    assert seen == keys


def test_ages_are_told_by_the_servers_clock(store: Store, proxy: LossyProxy) -> None:
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
