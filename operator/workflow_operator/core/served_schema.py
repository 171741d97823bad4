"""Compares the schema that the API server serves with the one that this operator needs.

An older CRD removes fields that it does not know from every write, and refuses values that it does not know. The
operator would then work with lost data. A newer CRD has everything that an older operator needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_UPPER_LIMITS = ("maxLength", "maxItems", "maxProperties", "maximum")
_PRESERVE = "x-kubernetes-preserve-unknown-fields"


def differences(needed: Mapping[str, Any], served: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the served schema lacks, as sorted texts such as `spec.suspend is missing`.

    Args:
        needed: the structural schema that this operator was built with.
        served: the schema of the same kind, as the API server publishes it.
    """
    return tuple(sorted(_compare("", needed, served)))


def _compare(path: str, needed: Mapping[str, Any], served: Mapping[str, Any]) -> Iterator[str]:
    if served.get(_PRESERVE) and not served.get("properties"):
        return
    yield from _values(path, needed, served)
    known = served.get("properties") or {}
    for name, inner in (needed.get("properties") or {}).items():
        inner_path = f"{path}.{name}" if path else name
        if name not in known:
            yield f"{inner_path} is missing"
        elif inner != {"type": "object"}:  # such as `metadata`, which the API server defines
            yield from _compare(inner_path, inner, known[name])
    for part, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        inner = needed.get(part)
        if isinstance(inner, Mapping):
            other = served.get(part)
            yield from _compare(path + suffix, inner, other if isinstance(other, Mapping) else {})


def _values(path: str, needed: Mapping[str, Any], served: Mapping[str, Any]) -> Iterator[str]:
    allowed = served.get("enum")
    if allowed is not None:
        for value in needed.get("enum") or ():
            if value not in allowed:
                yield f"{path} does not accept {value!r}"
    if path.startswith("status"):  # written by the operator; a newer CRD may allow users less
        for limit in _UPPER_LIMITS:
            if limit in served and served[limit] < needed.get(limit, float("inf")):
                yield f"{path} has {limit} {served[limit]}"
