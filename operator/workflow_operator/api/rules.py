"""What a spec must fulfil beyond types, once as text for people and once as CEL for the API server.

`api.spec` checks the same when it parses, because objects can be older than the rules; a test holds both against one
table.
"""

from __future__ import annotations

from dataclasses import dataclass

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
ENTRYPOINT = rf"^{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*$"
STORE_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?$"
ENDPOINT = r"^https?://[^/?#]+/?$"

ENTRYPOINT_TEXT = "write module:attribute, for example trip:book_trip"
OWN_NAME_TEXT = "rename the module: workflow is the library's own name"
STORE_URI_TEXT = "write s3://bucket/prefix, for example s3://workflows/team-a"
ENDPOINT_TEXT = "write the server's address without a path, for example http://minio.storage:9000"
ONE_CLUSTER_TEXT = "set exactly one of template (to make a RayCluster) and selector (to use one that runs)"
_STARTED = "has(self.status) && has(self.status.attempt) && self.status.attempt > 0"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule.

    Attributes:
        path: where it stands below the object, by property names.
        cel: the expression; `self` is the value at the path.
        message: what to write instead.
    """

    path: tuple[str, ...]
    cel: str
    message: str


def _kept(name: str, message: str) -> Rule:
    """A field of spec that may not change once a submission was made."""
    new, old = f"self.spec.{name}", f"oldSelf.spec.{name}"
    same = f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    return Rule((), f"!({_STARTED}) || ({same})", message)


_ANEW = "make a new Workflow instead"
RULES = (
    Rule(("spec", "entrypoint"), f"self.matches(r'{ENTRYPOINT}')", ENTRYPOINT_TEXT),
    Rule(("spec", "entrypoint"), "!self.matches('^workflow[.:]')", OWN_NAME_TEXT),
    Rule(("spec", "cluster"), "has(self.template) != has(self.selector)", ONE_CLUSTER_TEXT),
    Rule(("spec", "storage", "uri"), f"self.matches(r'{STORE_URI}')", STORE_URI_TEXT),
    Rule(("spec", "storage", "endpoint"), f"self.matches(r'{ENDPOINT}')", ENDPOINT_TEXT),
    Rule(("spec", "cancel"), "self || !oldSelf", f"cancel cannot be taken back: {_ANEW}"),
    _kept("entrypoint", f"entrypoint cannot change once the workflow has started: {_ANEW}"),
    _kept("code", f"code cannot change once the workflow has started (the run keeps its copy): {_ANEW}"),
    _kept("workflowId", f"workflowId cannot change once the workflow has started: {_ANEW}"),
    _kept("storage", f"storage cannot change once the workflow has started (its checkpoints lie there): {_ANEW}"),
)
