"""The base of all API models: frozen values, camelCase names in JSON, and times as RFC 3339.

The schema in the CRD, the parser of objects and the writer of status share these definitions.
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
    """Convert an RFC 3339 text to seconds since 1970; return a number unchanged."""
    if not isinstance(value, str):
        return value
    text = value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value
    head, dot, rest = text.partition(".")
    if dot:  # Python 3.10 accepts only 3 or 6 digits in the fraction of a second
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{head}.{rest[:digits][:6]:0<6}{rest[digits:]}"
    return datetime.fromisoformat(text).timestamp()


def format_time(seconds: float) -> str:
    """Format seconds since 1970 as RFC 3339 in UTC with milliseconds, a valid `date-time` for the API server."""
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=round(seconds * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    float,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""Seconds since 1970 in Python, RFC 3339 in JSON."""
