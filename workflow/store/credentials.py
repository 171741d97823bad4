"""Finds credentials for S3, and refreshes them before they expire.

The sources are those of the AWS SDKs. The first one that the environment configures counts: if it fails, the error
names it, and no other source is tried. The providers of minio-py read each source.
"""

from __future__ import annotations

import configparser
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import Final

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    AWSConfigProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    IamAwsProvider,
    Provider,
)

from workflow.errors import StoreRefusedError, StoreUnavailableError, WorkflowError

SETTINGS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Environment variables that decide which credentials a process has."""

REMEDY: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile or a role (docs/stores.md, section Credentials)"
)

_LONGEST_MARGIN: Final = 300.0
_PAUSE_AFTER_FAILED_REFRESH: Final = 10.0
_TIMEOUT: Final = urllib3.Timeout(connect=2.0, read=5.0)
_INSTANCE_TIMEOUT: Final = urllib3.Timeout(connect=1.0, read=1.0)
_STATUS: Final = re.compile(r"failed with HTTP status code (\d+)")
_FAILURES: Final = (ValueError, LookupError, OSError, configparser.Error, urllib3.exceptions.HTTPError)


def refresh_time(fetched_at: float, expires_at: float) -> float:
    """Return when to refresh credentials: 5 minutes before they expire, or after 3/4 of a shorter life.

    Args:
        fetched_at: time of the fetch, in seconds since 1970.
        expires_at: time of the expiry, in seconds since 1970.
    """
    return expires_at - min(_LONGEST_MARGIN, max(0.0, expires_at - fetched_at) / 4)


@dataclass(frozen=True, slots=True)
class Source:
    """One source of credentials.

    Attributes:
        name: the source, as error texts name it.
        provider: makes the provider that reads the source, with the settings that the environment has now.
        is_remote: whether the source is a service. Other sources are read for each request.
        is_guess: whether nothing in the environment names the source.
    """

    name: str
    provider: Callable[[], Provider]
    is_remote: bool = False
    is_guess: bool = False


def configured_source() -> Source | None:
    """Return the source that the environment configures; None if instance roles are disabled and there is no other."""
    get = os.environ.get
    if get("AWS_ACCESS_KEY_ID") or get("AWS_SECRET_ACCESS_KEY"):
        return Source("the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", EnvAWSProvider)
    if get("MINIO_ACCESS_KEY") or get("MINIO_SECRET_KEY"):
        return Source("the environment variables MINIO_ACCESS_KEY and MINIO_SECRET_KEY", EnvMinioProvider)
    if get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        endpoint = get("AWS_ENDPOINT_URL_STS")
        name = f"the web identity in {get('AWS_WEB_IDENTITY_TOKEN_FILE')} at {endpoint or 'the STS service of AWS'}"
        return Source(name, lambda: _role(endpoint), is_remote=True)
    profile = _profile()
    if profile is not None:
        return profile
    if get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return Source("the role of this container", lambda: _role(None), is_remote=True)
    if (get("AWS_EC2_METADATA_DISABLED") or "").lower() == "true":
        return None
    endpoint = (get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "").rstrip("/") or None
    return Source(
        "the role of this machine (instance metadata service)",
        lambda: _role(endpoint, _INSTANCE_TIMEOUT),
        is_remote=True,
        is_guess=endpoint is None,
    )


def _role(endpoint: str | None, timeout: urllib3.Timeout = _TIMEOUT) -> Provider:
    client = urllib3.PoolManager(timeout=timeout, retries=False)
    return IamAwsProvider(custom_endpoint=endpoint, http_client=client)


def _profile() -> Source | None:
    """Return the profile that the environment names, or the profile `default` if the file has one."""
    named = os.environ.get("AWS_PROFILE")
    profile, path = named or "default", os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or ""
    try:
        path = path or str(Path.home() / ".aws" / "credentials")
        has_profile = f"[{profile}]" in Path(path).read_text(errors="replace")
    except (OSError, RuntimeError):  # there is no such file, or this user has no home
        has_profile = False
    if not named and not has_profile:
        return None
    return Source(f"the profile {profile!r} in {path}", lambda: AWSConfigProvider(path, profile))


class CredentialsChain(Provider):
    """Credentials of the first source that is configured. Many threads may use one object.

    Args:
        source: returns the source that is configured now.
        now: returns the seconds since 1970.
    """

    def __init__(
        self, source: Callable[[], Source | None] = configured_source, now: Callable[[], float] = time.time
    ) -> None:
        self._source = source
        self._now = now
        self._lock = threading.Lock()
        self._kept: tuple[str, Credentials] | None = None
        self._refresh_at = 0.0

    def retrieve(self) -> Credentials:
        """Return credentials that are valid for a request now.

        Raises:
            StoreRefusedError: there are none, or their source refuses them.
            StoreUnavailableError: their source does not respond.
        """
        source = self._source()
        if source is None:
            raise _missing("no source is configured")
        if not source.is_remote:
            return _read(source, known=False)
        with self._lock:
            kept = self._kept[1] if self._kept is not None and self._kept[0] == source.name else None
            if kept is not None and self._now() < self._refresh_at:
                return kept
            try:
                fetched = _read(source, known=kept is not None)
            except (StoreRefusedError, StoreUnavailableError):
                if kept is None or kept.is_expired():
                    raise
                self._refresh_at = self._now() + _PAUSE_AFTER_FAILED_REFRESH
                return kept
            self._kept = (source.name, fetched)
            if fetched.expiration is None:
                self._refresh_at = float("inf")
            else:
                expires_at = fetched.expiration.replace(tzinfo=timezone.utc).timestamp()
                self._refresh_at = refresh_time(self._now(), expires_at)
            return fetched


def _read(source: Source, *, known: bool) -> Credentials:
    """Read a source.

    Args:
        source: where to look.
        known: whether the source had credentials before, so that it exists.
    """
    try:
        return source.provider().retrieve()
    except _FAILURES as error:
        failure = _failure(source, error, known=known)
    raise failure  # outside of the handler: a chained error would show the web identity


def _failure(source: Source, error: Exception, *, known: bool) -> WorkflowError:
    status = _STATUS.search(str(error))
    why = _reason(error, status[1] if status else "", hidden=source.is_remote)
    if source.is_guess and not known:
        return _missing(f"no source is configured, and {source.name} gives none ({why})")
    text = f"cannot get credentials for the store from {source.name}: {why}"
    if isinstance(error, urllib3.exceptions.HTTPError) or (status is not None and status[1].startswith("5")):
        return StoreUnavailableError(f"{text}; check that this service responds", credentials=True)
    return StoreRefusedError(f"{text}; correct that source, or {REMEDY}", credentials=True)


def _reason(error: Exception, status: str, *, hidden: bool) -> str:
    """Return why a source failed.

    Args:
        error: the error of the provider.
        status: the HTTP status of the response, or empty.
        hidden: whether the text of the error may contain a secret, as that of a request does.
    """
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.filename:
        return f"{cause.strerror}: {cause.filename}"
    if status:
        return f"the response was HTTP {status}"
    return type(error).__name__ if hidden else str(error)


def _missing(why: str) -> StoreRefusedError:
    return StoreRefusedError(
        f"cannot use the store: this process has no credentials for S3: {why}; {REMEDY}", credentials=True
    )
