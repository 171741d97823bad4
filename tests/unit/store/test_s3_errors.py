"""Tests of the S3 error tables: they cover every error class of urllib3 and minio-py, also in new releases."""

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
from workflow.store.s3_errors import ERROR_CODES, RequestContext, ServerBusy, diagnose, translate_errors

CONTEXT = RequestContext("read", "s3://bucket/key", "http://host:9000")
REFUSED = {
    "LocationValueError", "LocationParseError", "URLSchemeUnknown",
    "MinioException", "InvalidResponseError", "ServerError", "ProxySchemeUnknown", "ProxySchemeUnsupported",
}  # fmt: skip
RETRYABLE = {
    "HTTPError", "PoolError", "RequestError", "SSLError", "ProxyError", "DecodeError", "ProtocolError",
    "ConnectionError", "MaxRetryError", "HostChangedError", "TimeoutStateError", "TimeoutError",
    "ReadTimeoutError", "ConnectTimeoutError", "NewConnectionError", "NameResolutionError", "EmptyPoolError",
    "FullPoolError", "ClosedPoolError", "ResponseError", "IncompleteRead", "InvalidChunkLength",
    "ResponseNotChunked", "BodyNotHttplibCompatible", "InvalidHeader", "HeaderParsingError",
    "UnrewindableBodyError",
}  # fmt: skip


def errors_of(module: ModuleType) -> Iterator[type[Exception]]:
    """Yield all exception classes of a module, without its warnings."""
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
def test_every_client_error_is_in_the_table(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if isinstance(error, urllib3.exceptions.MaxRetryError):
        error.reason = None
    name = kind.__name__
    assert name in REFUSED | RETRYABLE, f"{name} is new: add its meaning to the table in workflow/store/s3_errors.py"
    assert diagnose(error).retryable is (name in RETRYABLE)


@pytest.mark.parametrize("code", ERROR_CODES)
def test_every_known_error_code_has_advice(code: str) -> None:
    kind = StoreUnavailableError if ERROR_CODES[code].retryable else StoreRefusedError
    with pytest.raises(kind) as raised, translate_errors(CONTEXT):
        raise error_response(code)
    assert type(raised.value) is kind
    text = str(raised.value)
    assert text.startswith(f"cannot read s3://bucket/key at http://host:9000: {code}: the server's words; ")
    assert text.endswith(ERROR_CODES[code].advice)


def test_unknown_error_code_is_shown() -> None:
    with (
        pytest.raises(StoreRefusedError, match="Teapot: the server's words; look up the code"),
        translate_errors(CONTEXT),
    ):
        raise error_response("Teapot")


UNTRUSTED = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed certificate"))
OTHER_ERRORS: dict[str, tuple[Exception, type[Exception], str]] = {
    "untrusted certificate": (UNTRUSTED, StoreRefusedError, "trust its certificate"),
    "untrusted certificate, after retries": (
        urllib3.exceptions.MaxRetryError(urllib3.HTTPConnectionPool("host"), "/secret-address", UNTRUSTED),
        StoreRefusedError,
        "trust its certificate",
    ),
    "broken TLS": (urllib3.exceptions.SSLError(ssl.SSLEOFError("eof")), StoreUnavailableError, "the connection broke"),
    "busy": (ServerBusy("the response was HTTP 503"), StoreUnavailableError, "was HTTP 503; try again later"),
    "invalid XML in a list": (ParseError("not well-formed"), StoreRefusedError, "is not an S3 server"),
    "invalid address": (ValueError("path in endpoint"), StoreRefusedError, "correct the store's address"),
}


@pytest.mark.parametrize(("error", "kind", "text"), OTHER_ERRORS.values(), ids=OTHER_ERRORS)
def test_other_client_errors(error: Exception, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as raised, translate_errors(CONTEXT):
        raise error
    assert type(raised.value) is kind
    assert text in str(raised.value)
    assert "/secret-address" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_own_errors_and_unrelated_errors_pass_unchanged() -> None:
    with pytest.raises(FencedError), translate_errors(CONTEXT):
        raise FencedError("another owner")
    with pytest.raises(ZeroDivisionError), translate_errors(CONTEXT):
        raise ZeroDivisionError


def error_response(code: str) -> S3Error:
    """Return the error that the client library raises for an error response."""
    return S3Error(urllib3.HTTPResponse(status=400), code, "the server's words", "/bucket/key", "request", "host")
