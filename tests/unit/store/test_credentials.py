"""Tests of the credentials chain, against a fake of the services that give credentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.processes import free_port
from tests.support.fake_aws import CONTAINER, FakeAws
from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.store.credentials import CredentialsChain, refresh_time
from workflow.store.s3 import S3Credentials

IDENTITY = "a-web-identity-that-no-text-may-show"


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with FakeAws(S3Credentials("key-1", "secret-1", "token-1")) as fake:
        yield fake


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no role of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE", raising=False)
    return tmp_path


Configure = Callable[[FakeAws, Path, pytest.MonkeyPatch], None]


def variables(aws: FakeAws, home: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("AWS_ACCESS_KEY_ID", "key-1")
    env.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    env.setenv("AWS_SESSION_TOKEN", "token-1")


def profile(aws: FakeAws, home: Path, env: pytest.MonkeyPatch) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = key-1\naws_secret_access_key = secret-1\naws_session_token = token-1\n"
    )


def named_profile(aws: FakeAws, home: Path, env: pytest.MonkeyPatch) -> None:
    (home / "keys").write_text(
        "[team]\naws_access_key_id = key-1\naws_secret_access_key = secret-1\naws_session_token = token-1\n"
    )
    env.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "keys"))
    env.setenv("AWS_PROFILE", "team")


def web_identity(aws: FakeAws, home: Path, env: pytest.MonkeyPatch) -> None:
    (home / "identity").write_text(IDENTITY)
    env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(home / "identity"))
    env.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/flows")
    env.setenv("AWS_ENDPOINT_URL_STS", aws.endpoint)


def container(aws: FakeAws, home: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", aws.endpoint + CONTAINER)


def instance(aws: FakeAws, home: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("AWS_EC2_METADATA_DISABLED", "false")
    env.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.endpoint + "/")


SOURCES = (variables, profile, named_profile, web_identity, container, instance)
REMOTE = (web_identity, container, instance)


@pytest.mark.parametrize("configure", SOURCES, ids=lambda each: each.__name__)
def test_each_source_gives_credentials(
    configure: Configure, aws: FakeAws, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, home, monkeypatch)
    found = CredentialsChain().retrieve()
    assert (found.access_key, found.secret_key, found.session_token) == ("key-1", "secret-1", "token-1")
    assert aws.identities == ([IDENTITY] if configure is web_identity else [])


def test_variables_that_change_are_read_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = CredentialsChain()
    for key in ("key-1", "key-2"):
        monkeypatch.setenv("MINIO_ACCESS_KEY", key)
        monkeypatch.setenv("MINIO_SECRET_KEY", "secret")
        assert chain.retrieve().access_key == key


@pytest.mark.parametrize("configure", REMOTE, ids=lambda each: each.__name__)
def test_credentials_are_refreshed_before_they_expire(
    configure: Configure, aws: FakeAws, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, home, monkeypatch)
    began = time.time()
    later = 0.0
    chain = CredentialsChain(now=lambda: began + later)
    assert [chain.retrieve().access_key for _ in range(3)] == ["key-1"] * 3
    assert aws.served == 1
    aws.given = S3Credentials("key-2", "secret-2", "token-2")
    later = 3250.0
    assert chain.retrieve().access_key == "key-1"
    later = 3350.0
    assert chain.retrieve().access_key == "key-2"


def test_failed_refresh_keeps_credentials_until_they_expire(
    aws: FakeAws, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance(aws, home, monkeypatch)
    began = time.time()
    later = 0.0
    chain = CredentialsChain(now=lambda: began + later)
    aws.life = 12.0
    chain.retrieve()
    aws.status = 503
    later = 10.0
    assert chain.retrieve().access_key == "key-1"
    aws.status = 200
    aws.given = S3Credentials("key-2", "secret-2", "token-2")
    later = 30.0
    assert chain.retrieve().access_key == "key-2"


@pytest.mark.parametrize(("life", "refreshed"), [(3600.0, 3300.0), (900.0, 675.0), (0.0, 0.0), (-5.0, -5.0)])
def test_refresh_time_is_before_the_expiry(life: float, refreshed: float) -> None:
    assert refresh_time(1000.0, 1000.0 + life) == 1000.0 + refreshed


@pytest.mark.parametrize("configure", REMOTE, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("status", "kind"), [(403, StoreRefusedError), (500, StoreUnavailableError)], ids=["refused", "unavailable"]
)
def test_failed_source_is_named_without_secrets(
    configure: Configure,
    status: int,
    kind: type[Exception],
    aws: FakeAws,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(aws, home, monkeypatch)
    aws.status = status
    with pytest.raises(kind, match=f"cannot get credentials for the store from .*the response was HTTP {status};") as e:
        CredentialsChain().retrieve()
    assert e.value.__cause__ is None
    assert e.value.__context__ is None
    assert IDENTITY not in str(e.value)


def test_source_that_does_not_respond_is_unavailable(aws: FakeAws, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web_identity(aws, home, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailableError, match=r"the web identity in .*NewConnectionError; check that this"):
        CredentialsChain().retrieve()


BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "only a key id": ({"AWS_ACCESS_KEY_ID": "key-1"}, "AWS_SECRET_ACCESS_KEY: Secret key must not be empty"),
    "profile without a file": ({"AWS_PROFILE": "team"}, "the profile 'team' in .*does not exist in profile team"),
    "identity without a file": ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/file"}, "No such file or directory: /no/file"),
    "nothing": ({}, "this process has no credentials for S3: no source is configured; set AWS_ACCESS_KEY_ID and"),
}


@pytest.mark.parametrize(("given", "text"), BROKEN.values(), ids=BROKEN)
def test_missing_credentials_are_refused(given: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreRefusedError, match=text) as refused:
        CredentialsChain().retrieve()
    assert refused.value.fields["credentials"] is True


def test_unset_home_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(StoreRefusedError, match="no credentials"):
        CredentialsChain().retrieve()
