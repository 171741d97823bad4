"""Service meshes: explains the replies of a proxy between the operator and a head.

The operator is usually outside the mesh. A proxy with strict mTLS closes its plain connection to port 8265 of the head.
"""

from __future__ import annotations

from collections.abc import Mapping

from workflow_operator.core.texts import clip

REMEDY = (
    "exclude port 8265 of the head from the mesh by an annotation of its pod template, for Istio "
    'traffic.sidecar.istio.io/excludeInboundPorts: "8265", for Linkerd config.linkerd.io/skip-inbound-ports: "8265" '
    "(docs/meshes.md)"
)
"""What to do if a proxy closes or refuses the operator's connection."""

CLOSED_WITHOUT_REPLY = (
    f"the connection was closed without a reply, as a sidecar does that is not ready or requires mTLS: {REMEDY}"
)
"""Explains a connection that was reset after it was established. A head that is down refuses it instead."""

_PROXY_SERVERS = ("envoy", "istio-envoy")
_SHOWN = 200
_LINKERD_ERROR = "l5d-proxy-error"
_FROM_PROXY = (403, 502, 503, 504)
"""Statuses with which a proxy refuses a request or reports that it cannot reach the Ray container."""


def refusal_of_proxy(status: int, headers: Mapping[str, str], text: str) -> str:
    """Return how a proxy refused a request, and what to do; empty if the head itself replied.

    Args:
        status: the HTTP status.
        headers: the headers of the response, with names in any case.
        text: the body of the response.
    """
    found = {name.lower(): value for name, value in headers.items()}
    is_envoy = found.get("server", "").lower() in _PROXY_SERVERS
    denied = status == 403 and text.startswith("RBAC:")
    if status not in _FROM_PROXY or not (is_envoy or denied or _LINKERD_ERROR in found):
        return ""
    detail = found.get(_LINKERD_ERROR) or text.strip().partition("\n")[0] or "no text"
    return f"a proxy of a service mesh replied HTTP {status} ({clip(detail, _SHOWN)}): {REMEDY}"
