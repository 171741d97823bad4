"""The version of this library: written into each segment, so that an older reader can name the version it needs."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def library_version() -> str:
    """Return the version of this package; `0+unpacked` if it is on the path without being installed."""
    try:
        return metadata.version("rayworkflow")
    except metadata.PackageNotFoundError:
        return "0+unpacked"
