"""What every model of the API shares: frozen values, camelCase on the wire, times as RFC 3339.

Stands in `api` because the schema in the CRD, the parsing of objects and the writing of status must agree on it.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel


class Value(BaseModel):
    """A frozen value of the API. Unknown fields are ignored, so that an older operator can read a newer object."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", use_attribute_docstrings=True
    )


def parse_time(value: Any) -> Any:
    """Seconds since 1970 of an RFC 3339 text; numbers pass through."""
    if not isinstance(value, str):
        return value
    text = value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value
    head, dot, rest = text.partition(".")
    if dot:  # Python 3.10 reads only 3 or 6 digits of a second's fraction
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{head}.{rest[:digits][:6]:0<6}{rest[digits:]}"
    return datetime.fromisoformat(text).timestamp()


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, which the API server's `date-time` takes."""
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=round(seconds * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    float,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""Seconds since 1970 here, RFC 3339 on the wire."""
