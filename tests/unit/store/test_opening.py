"""Tests of `open_store`: accepted addresses, refused addresses and the texts of the errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.errors import InvalidInputError
from workflow.store import open_store

KEYS = {"access_key": "user", "secret_key": "s3cr3t"}
ENDPOINT = "http://127.0.0.1:9000"

ACCEPTED = {
    "s3://bucket?endpoint=http://127.0.0.1:9000": "s3://bucket?endpoint=http://127.0.0.1:9000&region=us-east-1",
    "s3://bucket/?endpoint=http://127.0.0.1:9000/": "s3://bucket?endpoint=http://127.0.0.1:9000&region=us-east-1",
    "s3://my.bucket-1/a/b/?endpoint=https://minio.example&region=eu": (
        "s3://my.bucket-1/a/b?endpoint=https://minio.example&region=eu"
    ),
    "s3://bucket?endpoint=http://[::1]:9000": "s3://bucket?endpoint=http://%5B::1%5D:9000&region=us-east-1",
    "s3://bucket/p": "s3://bucket/p?endpoint=https://s3.amazonaws.com&region=us-east-1",
    "file:///data/flows": "/data/flows",
    "file://localhost/data/my%20flows/": "/data/my flows",
    "/data/flows/": "/data/flows",
    "/data/a#b?c": "/data/a#b?c",
    "memory://one": "memory://one",
    "memory://one/two/": "memory://one/two",
}


@pytest.mark.parametrize(("url", "opened"), ACCEPTED.items(), ids=ACCEPTED)
def test_url_of_an_open_store_opens_the_same_store(url: str, opened: str) -> None:
    store = open_store(url, **KEYS)
    assert store.url == opened
    assert open_store(store.url, **KEYS).url == opened
    assert "s3cr3t" not in repr(store) + store.url


REFUSED = {
    "": "its address is empty; use s3://",
    "gs://bucket": "no kind of store is called 'gs'; use s3://bucket/prefix",
    "file://host/data": "it is not a folder of this machine; use file:///folder, with three slashes",
    "file://data": "it is not a folder of this machine",
    "memory://": "the name is missing; use memory://name",
    "s3://": "'' is not a bucket name",
    "s3://My_Bucket/x": "'My_Bucket' is not a bucket name; use s3://bucket/prefix in lower case",
    "s3://bucket/a/../b": "its part '..' is empty or names a folder",
    "s3://bucket/" + "x" * 201: "longer than 200 bytes; shorten it",
    "s3://bucket/x?endpoint=127.0.0.1:9000": "'127.0.0.1:9000' is not an endpoint; use http://host:port",
    "s3://bucket/x?endpoint=http://host:9000/path": "is not an endpoint",
    "s3://bucket/x?endpoint=http://host:port": "is not an endpoint",
    "s3://bucket/x?endpoint=ftp://host": "is not an endpoint",
    "s3://bucket/x?endpoint=http://[::1:9000": "is not a URL: Invalid IPv6 URL; write an IPv6 address in brackets",
    "s3://bucket/x?endpoint=http://fd00::1": "is not an endpoint",
    "s3://[bucket/x": "is not a URL",
    "s3://bucket/x?zone=1": "its address contains 'zone'; use only 'endpoint' and 'region'",
    "s3://bucket/x#part": "its address contains a part after '#'",
}


@pytest.mark.parametrize(("url", "text"), REFUSED.items(), ids=REFUSED)
def test_error_of_invalid_address_states_the_correction(url: str, text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        open_store(url, **KEYS)
    assert text in str(refusal.value)


WITH_CREDENTIALS = (
    "s3://user:s3cr3t@bucket/x",
    f"s3://bucket/x?endpoint={ENDPOINT}&secret_key=s3cr3t",
    f"s3://bucket/x?endpoint={ENDPOINT}&token=s3cr3t",
    "s3://bucket/x?endpoint=http://user:s3cr3t@127.0.0.1:9000",
)


@pytest.mark.parametrize("url", WITH_CREDENTIALS)
def test_address_with_credentials_is_refused_without_them(url: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        open_store(url, **KEYS)
    assert "s3cr3t" not in str(refusal.value)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(refusal.value)


def test_environment_sets_endpoint_region_and_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("AWS_ENDPOINT_URL", ENDPOINT)
    monkeypatch.setenv("AWS_REGION", "moon")
    assert open_store("s3://bucket/x").url == f"s3://bucket/x?endpoint={ENDPOINT}&region=moon"
    assert open_store("s3://bucket/x?region=mars").url == f"s3://bucket/x?endpoint={ENDPOINT}&region=mars"


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"access_key": "user"}, "secret key"), ({"secret_key": "s3cr3t"}, "access key")],
    ids=["no secret key", "no access key"],
)
def test_missing_credentials_are_named(given: dict[str, str], missing: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"cannot open the store: its {missing} is missing; set AWS_ACCESS_KEY_ID"
    ):
        open_store("s3://bucket/x", **given)


def test_store_without_credentials_states_where_to_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file")
    store = open_store(f"s3://bucket/x?endpoint={ENDPOINT}")
    with pytest.raises(InvalidInputError, match=r"this process has no credentials for S3.*; set AWS_ACCESS_KEY_ID"):
        store.get("key")


def test_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("some/folder")
    assert store.url == str(tmp_path / "some" / "folder")
    monkeypatch.chdir("/")
    store.create("key", b"data", "put-1")
    assert (tmp_path / "some" / "folder" / "key").exists()


def test_memory_stores_of_one_name_share_objects() -> None:
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
