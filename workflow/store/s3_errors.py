"""What the answers of an S3 server and the failures on the way to it mean, in one table.

Called by the S3 adapter only; apart from it so that a test can hold the table against what the client library raises.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import exceptions as urllib3_errors

from workflow.errors import StoreRefusedError, StoreUnavailableError, WorkflowError


@dataclass(frozen=True, slots=True)
class Place:
    """What a request was about, for the text of its error."""

    doing: str
    object: str
    endpoint: str


class Busy(urllib3_errors.HTTPError):
    """The server, or a proxy before it, answered that it cannot now."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Whether trying again may help, and what the reader can do."""

    again: bool
    advice: str


_KEY_ID: Final = "correct the access key (AWS_ACCESS_KEY_ID)"
_SECRET: Final = "correct the secret key (AWS_SECRET_ACCESS_KEY)"
_TOKEN: Final = "get new temporary credentials (AWS_SESSION_TOKEN)"
_RIGHTS: Final = "let these credentials get, put, delete and list there"
_REGION: Final = "give the bucket's region in the store's address: &region=..."
_ADDRESS: Final = "correct the endpoint in the store's address: ?endpoint=http://host:9000"
_NO_S3: Final = "what answers there does not speak S3; " + _ADDRESS
_LACKS: Final = "the server cannot do this; use one that docs/stores.md names"
_LATER: Final = "try again later"

ANSWERS: Final = {
    "NoSuchBucket": Meaning(False, "create the bucket, or correct its name in the store's address"),
    "InvalidBucketName": Meaning(False, "correct the bucket's name in the store's address"),
    "AccessDenied": Meaning(False, _RIGHTS),
    "AllAccessDisabled": Meaning(False, _RIGHTS),
    "AccountProblem": Meaning(False, "ask who runs the store about this account"),
    "InvalidAccessKeyId": Meaning(False, _KEY_ID),
    "SignatureDoesNotMatch": Meaning(False, _SECRET),
    "ExpiredToken": Meaning(False, _TOKEN),
    "InvalidToken": Meaning(False, _TOKEN),
    "InvalidTokenId": Meaning(False, _TOKEN),
    "RequestTimeTooSkewed": Meaning(False, "set this machine's clock, which differs from the server's"),
    "AuthorizationHeaderMalformed": Meaning(False, _REGION),
    "AuthorizationQueryParametersError": Meaning(False, _REGION),
    "PermanentRedirect": Meaning(False, _REGION),
    "NoSuchKey": Meaning(False, "this release refuses a condition on a new key; use one that docs/stores.md names"),
    "MethodNotAllowed": Meaning(False, _LACKS),
    "NotImplemented": Meaning(False, _LACKS),
    "EntityTooLarge": Meaning(False, "the object is larger than the server takes in one piece; make the value smaller"),
    "KeyTooLongError": Meaning(False, "shorten the prefix in the store's address"),
    "ConditionalRequestConflict": Meaning(True, "another writer is at the same key; " + _LATER),
    "OperationAborted": Meaning(True, "another writer is at the same key; " + _LATER),
    "TemporaryRedirect": Meaning(True, "the bucket is being made; " + _LATER),
    "SlowDown": Meaning(True, _LATER),
    "RequestTimeout": Meaning(True, _LATER),
    "IncompleteBody": Meaning(True, _LATER),
    "InternalError": Meaning(True, _LATER),
    "ServiceUnavailable": Meaning(True, _LATER),
    "XMinioStorageFull": Meaning(True, "the server's disk is full; free some space"),
    "XMinioAdminBucketQuotaExceeded": Meaning(True, "the bucket's quota is used up; raise it or free some space"),
}
UNKNOWN_ANSWER: Final = Meaning(False, "look the code up in the server's documentation")

# The first that fits counts: the narrow ones stand above the wide ones.
FAILURES: Final[tuple[tuple[type[Exception], Meaning], ...]] = (
    (ssl.SSLCertVerificationError, Meaning(False, "trust its certificate (SSL_CERT_FILE), or correct the endpoint")),
    (urllib3_errors.LocationValueError, Meaning(False, _ADDRESS)),
    (urllib3_errors.NameResolutionError, Meaning(True, "no such host is known now; look at DNS, or " + _ADDRESS)),
    (
        urllib3_errors.NewConnectionError,
        Meaning(True, "nothing answers there; see that the server runs, or " + _ADDRESS),
    ),
    (
        urllib3_errors.ConnectTimeoutError,
        Meaning(True, "nothing answers there; see that the server runs, or " + _ADDRESS),
    ),
    (urllib3_errors.ReadTimeoutError, Meaning(True, "the server took too long; look at its load")),
    (Busy, Meaning(True, _LATER)),
    (urllib3_errors.HTTPError, Meaning(True, "the connection broke; " + _LATER)),
    (InvalidResponseError, Meaning(False, _NO_S3)),
    (ParseError, Meaning(False, _NO_S3)),
    (ServerError, Meaning(False, _LACKS)),
    (MinioException, Meaning(False, _NO_S3)),
    (ValueError, Meaning(False, "correct the store's address")),
)


@contextlib.contextmanager
def translated(place: Place) -> Iterator[None]:
    """Turn an error of the client library into one of this library, with what was done, where, and what helps."""
    try:
        yield
    except WorkflowError:
        raise
    except tuple(kind for kind, _ in FAILURES) as error:
        cause = _innermost(error)
        what = f"{cause.code}: {cause.message}" if isinstance(cause, S3Error) else f"{type(cause).__name__}: {cause}"
        raise _error(meaning_of(error), place, what) from error


def meaning_of(error: Exception) -> Meaning:
    """What an error of the client library means."""
    cause = _innermost(error)
    if isinstance(cause, S3Error):
        return ANSWERS.get(cause.code or "", UNKNOWN_ANSWER)
    return next(meaning for kind, meaning in FAILURES if isinstance(cause, kind))


def _error(meaning: Meaning, place: Place, what: str) -> WorkflowError:
    kind = StoreUnavailableError if meaning.again else StoreRefusedError
    text = f"cannot {place.doing} {place.object} at {place.endpoint}: {what}; {meaning.advice}"
    return kind(text, object=place.object, endpoint=place.endpoint)


def _innermost(error: Exception) -> Exception:
    """What urllib3 wrapped: the reason that tries were given up, and the certificate that was not trusted."""
    if isinstance(error, urllib3_errors.MaxRetryError) and error.reason is not None:
        return _innermost(error.reason)
    if isinstance(error, urllib3_errors.SSLError) and error.args and isinstance(error.args[0], ssl.SSLError):
        return error.args[0] if isinstance(error.args[0], ssl.SSLCertVerificationError) else error
    return error
