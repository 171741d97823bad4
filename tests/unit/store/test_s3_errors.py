"""The table of S3's errors knows every error of the libraries below; a new one there fails here."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import ModuleType
from xml.etree.ElementTree import ParseError

import minio.error
import pytest
import urllib3.exceptions
from minio.error import S3Error

from workflow.errors import FencedError, StoreRefusedError, StoreUnavailableError
from workflow.store.s3_errors import ANSWERS, Busy, Place, meaning_of, translated

PLACE = Place("read", "s3://bucket/key", "http://host:9000")
REFUSED = {
    "LocationValueError", "LocationParseError", "URLSchemeUnknown",
    "MinioException", "InvalidResponseError", "ServerError", "ProxySchemeUnknown", "ProxySchemeUnsupported",
}  # fmt: skip
AGAIN = {
    "HTTPError", "PoolError", "RequestError", "SSLError", "ProxyError", "DecodeError", "ProtocolError",
    "ConnectionError", "MaxRetryError", "HostChangedError", "TimeoutStateError", "TimeoutError",
    "ReadTimeoutError", "ConnectTimeoutError", "NewConnectionError", "NameResolutionError", "EmptyPoolError",
    "FullPoolError", "ClosedPoolError", "ResponseError", "IncompleteRead", "InvalidChunkLength",
    "ResponseNotChunked", "BodyNotHttplibCompatible", "InvalidHeader", "HeaderParsingError",
    "UnrewindableBodyError",
}  # fmt: skip


def errors_of(module: ModuleType) -> Iterator[type[Exception]]:
    """All errors that a module defines, not its warnings."""
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning):
            yield kind


LIBRARY_ERRORS = sorted(
    {
        kind
        for module in (urllib3.exceptions, minio.error)
        for kind in errors_of(module)
        if kind.__module__ in ("urllib3.exceptions", "minio.error")
    }
    - {S3Error, minio.error.MinioAdminException},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", LIBRARY_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_library_has_a_meaning(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if isinstance(error, urllib3.exceptions.MaxRetryError):
        error.reason = None
    name = kind.__name__
    assert name in REFUSED | AGAIN, f"{name} is new: say in the table of s3_errors what it means"
    assert meaning_of(error).again is (name in AGAIN)


@pytest.mark.parametrize("code", ANSWERS)
def test_every_known_answer_says_what_to_do(code: str) -> None:
    kind = StoreUnavailableError if ANSWERS[code].again else StoreRefusedError
    with pytest.raises(kind) as raised, translated(PLACE):
        raise answer(code)
    assert type(raised.value) is kind
    text = str(raised.value)
    assert text.startswith(f"cannot read s3://bucket/key at http://host:9000: {code}: the server's words; ")
    assert text.endswith(ANSWERS[code].advice)


def test_an_answer_nobody_knows_is_shown_as_it_is() -> None:
    with pytest.raises(StoreRefusedError, match="Teapot: the server's words; look the code up"), translated(PLACE):
        raise answer("Teapot")


UNTRUSTED = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed certificate"))
OTHERS: dict[str, tuple[Exception, type[Exception], str]] = {
    "untrusted certificate": (UNTRUSTED, StoreRefusedError, "trust its certificate"),
    "untrusted, after tries": (
        urllib3.exceptions.MaxRetryError(urllib3.HTTPConnectionPool("host"), "/secret-address", UNTRUSTED),
        StoreRefusedError,
        "trust its certificate",
    ),
    "broken TLS": (urllib3.exceptions.SSLError(ssl.SSLEOFError("eof")), StoreUnavailableError, "the connection broke"),
    "busy": (Busy("the answer was HTTP 503"), StoreUnavailableError, "the answer was HTTP 503; try again later"),
    "garbage in a list": (ParseError("not well-formed"), StoreRefusedError, "does not speak S3"),
    "an address that cannot be": (ValueError("path in endpoint"), StoreRefusedError, "correct the store's address"),
}


@pytest.mark.parametrize(("error", "kind", "text"), OTHERS.values(), ids=OTHERS)
def test_other_failures(error: Exception, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as raised, translated(PLACE):
        raise error
    assert type(raised.value) is kind
    assert text in str(raised.value)
    assert "/secret-address" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_errors_of_this_library_and_bugs_pass() -> None:
    with pytest.raises(FencedError), translated(PLACE):
        raise FencedError("another owner")
    with pytest.raises(ZeroDivisionError), translated(PLACE):
        raise ZeroDivisionError


def answer(code: str) -> S3Error:
    """An error as the server sends it."""
    return S3Error(urllib3.HTTPResponse(status=400), code, "the server's words", "/bucket/key", "request", "host")
