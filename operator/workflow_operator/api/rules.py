"""Rules for a spec that types cannot express: as CEL for the API server, and as text for the user.

`api.spec` applies the same rules when it parses, because an object can be older than the rules. A test applies both
versions to one table.
"""

from __future__ import annotations

from dataclasses import dataclass

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
ENTRYPOINT = rf"^{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*$"
STORE_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?$"
ENDPOINT = r"^https?://[^/?#]+/?$"

ENTRYPOINT_TEXT = "write module:attribute, for example trip:book_trip"
OWN_NAME_TEXT = "rename the module: the name workflow is reserved for the library"
STORE_URI_TEXT = "write s3://bucket/prefix, for example s3://workflows/team-a"
ENDPOINT_TEXT = "write the server's address without a path, for example http://minio.storage:9000"
ONE_CLUSTER_TEXT = "set exactly one of template (creates a RayCluster) and selector (uses a running RayCluster)"
RETAIN_TEXT = "remove retain: a RayCluster that a selector chose is never deleted, so it needs no retain"
DEFAULT_MAX_RESUMES = 5
DEFAULT_MAX_DISRUPTIONS = 100
_STARTED = "has(self.status) && has(self.status.attempt) && self.status.attempt > 0"
_CREATE_ANOTHER = "create another Workflow instead"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule.

    Attributes:
        path: the property names that lead from the object to the validated value.
        cel: the expression; `self` is the value at the path.
        message: the correction that the user has to make.
    """

    path: tuple[str, ...]
    cel: str
    message: str


def _immutable(name: str, message: str) -> Rule:
    """Build the rule for a field of spec that cannot change after the first submission attempt."""
    new, old = f"self.spec.{name}", f"oldSelf.spec.{name}"
    same = f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    return Rule((), f"!({_STARTED}) || ({same})", message)


def _only_lower(name: str, default: int) -> Rule:
    """Build the rule for a limit that the run records when it is created, so that it cannot grow later."""

    def limit(spec: str) -> str:
        return f"(has({spec}.recovery) && has({spec}.recovery.{name}) ? {spec}.recovery.{name} : {default})"

    return Rule(
        (),
        f"!({_STARTED}) || {limit('self.spec')} <= {limit('oldSelf.spec')}",
        f"recovery.{name} cannot grow once the workflow has started (the run records it): keep the value or lower "
        f"it, or {_CREATE_ANOTHER}",
    )


RULES = (
    Rule(("spec", "entrypoint"), f"self.matches(r'{ENTRYPOINT}')", ENTRYPOINT_TEXT),
    Rule(("spec", "entrypoint"), "!self.matches('^workflow[.:]')", OWN_NAME_TEXT),
    Rule(("spec", "cluster"), "has(self.template) != has(self.selector)", ONE_CLUSTER_TEXT),
    Rule(("spec", "storage", "uri"), f"self.matches(r'{STORE_URI}')", STORE_URI_TEXT),
    Rule(("spec", "storage", "endpoint"), f"self.matches(r'{ENDPOINT}')", ENDPOINT_TEXT),
    Rule(("spec", "cancel"), "self || !oldSelf", f"cancel cannot be set back to false: {_CREATE_ANOTHER}"),
    _immutable("entrypoint", f"entrypoint cannot change once the workflow has started: {_CREATE_ANOTHER}"),
    _immutable(
        "args", f"args cannot change once the workflow has started (the run keeps its arguments): {_CREATE_ANOTHER}"
    ),
    _immutable("code", f"code cannot change once the workflow has started (the run uses its copy): {_CREATE_ANOTHER}"),
    _immutable("workflowId", f"workflowId cannot change once the workflow has started: {_CREATE_ANOTHER}"),
    _immutable(
        "storage",
        f"storage cannot change once the workflow has started (it contains the checkpoints): {_CREATE_ANOTHER}",
    ),
    _only_lower("maxResumes", DEFAULT_MAX_RESUMES),
    _only_lower("maxDisruptions", DEFAULT_MAX_DISRUPTIONS),
    Rule(
        ("spec", "cluster"),
        "!has(self.retain) || self.retain != 'OnFailure' || has(self.template)",
        RETAIN_TEXT,
    ),
)
