"""Addresses of stores: what is taken, what is refused and how that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.errors import InvalidInputError
from workflow.store import open_store

KEYS = {"access_key": "user", "secret_key": "s3cr3t"}
ENDPOINT = "http://127.0.0.1:9000"

TAKEN = {
    "s3://bucket?endpoint=http://127.0.0.1:9000": "s3://bucket?endpoint=http://127.0.0.1:9000&region=us-east-1",
    "s3://bucket/?endpoint=http://127.0.0.1:9000/": "s3://bucket?endpoint=http://127.0.0.1:9000&region=us-east-1",
    "s3://my.bucket-1/a/b/?endpoint=https://minio.example&region=eu": (
        "s3://my.bucket-1/a/b?endpoint=https://minio.example&region=eu"
    ),
    "s3://bucket/p": "s3://bucket/p?endpoint=https://s3.amazonaws.com&region=us-east-1",
    "file:///data/flows": "/data/flows",
    "file://localhost/data/my%20flows/": "/data/my flows",
    "/data/flows/": "/data/flows",
    "/data/a#b?c": "/data/a#b?c",
    "memory://one": "memory://one",
    "memory://one/two/": "memory://one/two",
}


@pytest.mark.parametrize(("url", "opened"), TAKEN.items(), ids=TAKEN)
def test_an_address_names_a_store_and_opens_it_again(url: str, opened: str) -> None:
    store = open_store(url, **KEYS)
    assert store.url == opened
    assert open_store(store.url, **KEYS).url == opened
    assert "s3cr3t" not in repr(store) + store.url


REFUSED = {
    "": "the store's address is empty; give s3://",
    "gs://bucket": "no kind of store is called 'gs'; give s3://bucket/prefix",
    "file://host/data": "does not name a folder of this machine; give file:///folder, with three slashes",
    "file://data": "does not name a folder of this machine",
    "memory://": "memory:// lacks a name",
    "s3://": "'' cannot be a bucket's name",
    "s3://My_Bucket/x": "'My_Bucket' cannot be a bucket's name; give s3://bucket/prefix, the bucket in lower case",
    "s3://bucket/a/../b": "its part '..' is empty or names a folder",
    "s3://bucket/" + "x" * 201: "longer than 200 bytes; shorten it",
    "s3://bucket/x?endpoint=127.0.0.1:9000": "'127.0.0.1:9000' is no endpoint; give http://host:port",
    "s3://bucket/x?endpoint=http://host:9000/path": "is no endpoint",
    "s3://bucket/x?endpoint=http://host:port": "is no endpoint",
    "s3://bucket/x?endpoint=ftp://host": "is no endpoint",
    "s3://bucket/x?zone=1": "holds 'zone'; it takes 'endpoint' and 'region'",
    "s3://bucket/x#part": "holds a part behind '#'",
}


@pytest.mark.parametrize(("url", "text"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_address_is_refused_with_what_to_change(url: str, text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        open_store(url, **KEYS)
    assert text in str(refusal.value)


HOLDING_CREDENTIALS = (
    "s3://user:s3cr3t@bucket/x",
    f"s3://bucket/x?endpoint={ENDPOINT}&secret_key=s3cr3t",
    f"s3://bucket/x?endpoint={ENDPOINT}&token=s3cr3t",
    "s3://bucket/x?endpoint=http://user:s3cr3t@127.0.0.1:9000",
)


@pytest.mark.parametrize("url", HOLDING_CREDENTIALS)
def test_an_address_with_credentials_is_refused_and_they_are_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        open_store(url, **KEYS)
    assert "s3cr3t" not in str(refusal.value)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(refusal.value)


def test_the_environment_says_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("AWS_ENDPOINT_URL", ENDPOINT)
    monkeypatch.setenv("AWS_REGION", "moon")
    assert open_store("s3://bucket/x").url == f"s3://bucket/x?endpoint={ENDPOINT}&region=moon"
    assert open_store("s3://bucket/x?region=mars").url == f"s3://bucket/x?endpoint={ENDPOINT}&region=mars"


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "access key"), ({"access_key": "user"}, "secret key"), ({"secret_key": "s3cr3t"}, "access key")],
    ids=["neither", "no secret", "no user"],
)
def test_missing_credentials_are_named(given: dict[str, str], missing: str) -> None:
    with pytest.raises(InvalidInputError, match=f"the {missing} of the S3 store is missing; set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket/x", **given)


def test_a_relative_folder_is_the_same_one_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("some/folder")
    assert store.url == str(tmp_path / "some" / "folder")
    monkeypatch.chdir("/")
    store.create("key", b"data", "put-1")
    assert (tmp_path / "some" / "folder" / "key").exists()


def test_a_memory_store_is_shared_by_name() -> None:
    open_store("memory://shared").create("key", b"data", "put-1")
    assert open_store("memory://shared").get("key") == b"data"
    assert open_store("memory://other").get("key") is None


def test_opening_writes_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "new"))
    assert store.get("key") is None
    assert store.head("key") is None
    assert list(store.list("")) == []
    store.delete("key")
    assert not (tmp_path / "new").exists()
