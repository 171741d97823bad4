"""Translates error responses of S3 servers and errors of the client library into errors of this library.

Only the S3 adapter uses it. It is a module of its own so that a test can compare its tables with the client library.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import exceptions as urllib3_errors

from workflow.errors import StoreRefusedError, StoreUnavailableError, WorkflowError


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a request was for, to describe it in the text of an error.

    Attributes:
        operation: a verb, such as `read`.
        object: address of the object, `s3://bucket/key`.
        endpoint: URL of the server.
    """

    operation: str
    object: str
    endpoint: str


class ServerBusy(urllib3_errors.HTTPError):
    """The server, or a proxy in front of it, cannot serve the request now."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The meaning of an error.

    Attributes:
        retryable: a retry may succeed.
        advice: what the user can do.
        lasting: the settings are probably wrong. A run waits for a correction, but a first use is refused at once.
        credentials: the cause is the credentials, or that they are missing.
        bucket_missing: the server replied that it has no such bucket.
    """

    retryable: bool
    advice: str
    lasting: bool = False
    credentials: bool = False
    bucket_missing: bool = False


_KEY_ID: Final = "correct the access key (AWS_ACCESS_KEY_ID)"
_SECRET: Final = "correct the secret key (AWS_SECRET_ACCESS_KEY)"
_TOKEN: Final = "get new temporary credentials (AWS_SESSION_TOKEN)"
_RIGHTS: Final = "allow these credentials to get, put, delete and list there"
_REGION: Final = "set the region of the bucket in the store's address: &region=..."
_ADDRESS: Final = "correct the endpoint in the store's address: ?endpoint=http://host:9000"
_NOT_S3: Final = "the server there is not an S3 server; " + _ADDRESS
_UNSUPPORTED: Final = "the server does not support this; use one that docs/stores.md names"
_LATER: Final = "try again later"
_NO_TLS: Final = "the server there does not accept TLS like this; use http:// in the endpoint, or correct its port"
_TLS: Final = "the server there expects TLS; use https:// in the endpoint, or correct its port"
_NOT_HTTP: Final = "the server there is not an HTTP server; " + _ADDRESS

ERROR_CODES: Final = {
    "NoSuchBucket": Diagnosis(
        False, "create the bucket, or correct its name in the store's address", bucket_missing=True
    ),
    "InvalidBucketName": Diagnosis(False, "correct the bucket's name in the store's address"),
    "AccessDenied": Diagnosis(False, _RIGHTS, credentials=True),
    "AllAccessDisabled": Diagnosis(False, _RIGHTS, credentials=True),
    "AccountProblem": Diagnosis(False, "ask the administrator of the store about this account"),
    "InvalidAccessKeyId": Diagnosis(False, _KEY_ID, credentials=True),
    "SignatureDoesNotMatch": Diagnosis(False, _SECRET, credentials=True),
    "ExpiredToken": Diagnosis(False, _TOKEN, credentials=True),
    "InvalidToken": Diagnosis(False, _TOKEN, credentials=True),
    "InvalidTokenId": Diagnosis(False, _TOKEN, credentials=True),
    "RequestTimeTooSkewed": Diagnosis(False, "correct the clock of this machine, which differs from the server's"),
    "AuthorizationHeaderMalformed": Diagnosis(False, _REGION),
    "AuthorizationQueryParametersError": Diagnosis(False, _REGION),
    "PermanentRedirect": Diagnosis(False, _REGION),
    "NoSuchKey": Diagnosis(False, "this release refuses conditional writes; use one that docs/stores.md names"),
    "MethodNotAllowed": Diagnosis(False, _UNSUPPORTED),
    "NotImplemented": Diagnosis(False, _UNSUPPORTED),
    "EntityTooLarge": Diagnosis(False, "the server does not accept objects of this size; make the value smaller"),
    "KeyTooLongError": Diagnosis(False, "shorten the prefix in the store's address"),
    "ConditionalRequestConflict": Diagnosis(True, "another process writes the same key; " + _LATER),
    "OperationAborted": Diagnosis(True, "another process writes the same key; " + _LATER),
    "TemporaryRedirect": Diagnosis(True, "the bucket is being created; " + _LATER),
    "SlowDown": Diagnosis(True, _LATER),
    "RequestTimeout": Diagnosis(True, _LATER),
    "IncompleteBody": Diagnosis(True, _LATER),
    "InternalError": Diagnosis(True, _LATER),
    "ServiceUnavailable": Diagnosis(True, _LATER),
    "XMinioStorageFull": Diagnosis(True, "the server's disk is full; free some space"),
    "XMinioAdminBucketQuotaExceeded": Diagnosis(True, "the bucket's quota is used up; raise it or free some space"),
}
UNKNOWN_CODE: Final = Diagnosis(False, "look up the code in the documentation of the server")

# The first matching class counts, so subclasses come before their base classes.
CLIENT_ERRORS: Final[tuple[tuple[type[Exception], Diagnosis], ...]] = (
    (ssl.SSLCertVerificationError, Diagnosis(False, "trust its certificate (SSL_CERT_FILE), or correct the endpoint")),
    (urllib3_errors.LocationValueError, Diagnosis(False, _ADDRESS)),
    (urllib3_errors.NameResolutionError, Diagnosis(True, "the host name is unknown; check DNS, or " + _ADDRESS)),
    (
        urllib3_errors.NewConnectionError,
        Diagnosis(True, "no server responds there; check that it runs, or " + _ADDRESS),
    ),
    (
        urllib3_errors.ConnectTimeoutError,
        Diagnosis(True, "no server responds there; check that it runs, or " + _ADDRESS),
    ),
    (urllib3_errors.ReadTimeoutError, Diagnosis(True, "the server took too long; check its load")),
    (ServerBusy, Diagnosis(True, _LATER)),
    (urllib3_errors.HTTPError, Diagnosis(True, "the connection broke; " + _LATER)),
    (InvalidResponseError, Diagnosis(False, _NOT_S3)),
    (ParseError, Diagnosis(False, _NOT_S3)),
    (ServerError, Diagnosis(False, _UNSUPPORTED)),
    (MinioException, Diagnosis(False, _NOT_S3)),
    (ValueError, Diagnosis(False, "correct the store's address")),
)


@contextlib.contextmanager
def translate_errors(context: RequestContext) -> Iterator[None]:
    """Turn an error of the client library into one that names the operation, the object, the cause and the remedy."""
    try:
        yield
    except WorkflowError:
        raise
    except tuple(kind for kind, _ in CLIENT_ERRORS) as error:
        cause = _innermost(error)
        what = f"{cause.code}: {cause.message}" if isinstance(cause, S3Error) else f"{type(cause).__name__}: {cause}"
        raise _error(diagnose(error), context, what) from error


def diagnose(error: Exception) -> Diagnosis:
    """Return the meaning of an error of the client library."""
    cause = _innermost(error)
    if isinstance(cause, S3Error):
        return ERROR_CODES.get(cause.code or "", UNKNOWN_CODE)
    return _wrong_protocol(cause) or next(diagnosis for kind, diagnosis in CLIENT_ERRORS if isinstance(cause, kind))


_UNKNOWN_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Answers of the resolver that the name does not exist. Other answers mean that the resolver failed."""

_TLS_RECORD: Final = re.compile("[\x14-\x17]\x03[\x00-\x04]")
"""The first bytes of a TLS record. A TLS server sends one as its reply to a request in plain text."""

_EXPECTS_TLS: Final = re.compile("HTTP request.{1,20}HTTPS", re.IGNORECASE)
"""Part of the page with which HTTP servers refuse a request in plain text on a port for TLS."""


def _wrong_protocol(cause: Exception) -> Diagnosis | None:
    """Return the meaning of an error that shows a wrong endpoint: an unknown host, or another protocol."""
    if isinstance(cause, urllib3_errors.NameResolutionError):
        resolver = cause.__cause__
        unknown = isinstance(resolver, socket.gaierror) and resolver.errno in _UNKNOWN_NAME
        return Diagnosis(True, "the host name is unknown; check DNS, or " + _ADDRESS, lasting=True) if unknown else None
    if isinstance(cause, urllib3_errors.SSLError):
        tls = cause.args[0] if cause.args else None
        broke = isinstance(tls, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))
        return Diagnosis(True, _NO_TLS, lasting=True) if isinstance(tls, ssl.SSLError) and not broke else None
    if isinstance(cause, urllib3_errors.ProtocolError):
        reply = cause.args[1] if len(cause.args) > 1 else None
        if isinstance(reply, http.client.BadStatusLine) and not isinstance(reply, http.client.RemoteDisconnected):
            return Diagnosis(True, _TLS if _TLS_RECORD.match(str(reply.args[0])) else _NOT_HTTP, lasting=True)
    if isinstance(cause, InvalidResponseError) and _EXPECTS_TLS.search(str(cause)):
        return Diagnosis(False, _TLS)
    return None


def _error(diagnosis: Diagnosis, context: RequestContext, what: str) -> WorkflowError:
    kind = StoreUnavailableError if diagnosis.retryable else StoreRefusedError
    text = f"cannot {context.operation} {context.object} at {context.endpoint}: {what}; {diagnosis.advice}"
    facts = {
        "lasting": diagnosis.lasting,
        "credentials": diagnosis.credentials,
        "bucket_missing": diagnosis.bucket_missing,
    }
    return kind(text, object=context.object, endpoint=context.endpoint, **facts)


def _innermost(error: Exception) -> Exception:
    """Return the error that urllib3 wrapped: why it stopped retrying, or why it did not trust a certificate."""
    if isinstance(error, urllib3_errors.MaxRetryError) and error.reason is not None:
        return _innermost(error.reason)
    if isinstance(error, urllib3_errors.SSLError) and error.args and isinstance(error.args[0], ssl.SSLError):
        return error.args[0] if isinstance(error.args[0], ssl.SSLCertVerificationError) else error
    return error
