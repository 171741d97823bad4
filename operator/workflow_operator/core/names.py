"""The names that the operator assigns, with one function for each.

Each name is a pure function of the Workflow and a number. So the operator finds what it created before a crash.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping

from workflow_operator.api import GROUP

FINALIZER = f"{GROUP}/finalizer"
UID_LABEL = f"{GROUP}/workflow-uid"
NAME_LABEL = f"{GROUP}/workflow"
ATTEMPT_LABEL = f"{GROUP}/attempt"
TEMPLATE_LABEL = f"{GROUP}/template"
RESUME_ANNOTATION = f"{GROUP}/resume"
FIELD_MANAGER = "rayworkflow-operator"

_RUN_NAMESPACE = uuid.UUID("5a1ad9c0-3f0e-5d39-9f0c-6a4a3f1c2d11")
_NAME_PART = 24
UID_DIGITS = 10
"""Hex digits of the uid in the name of a cluster. They make it unique among the Workflows of a namespace."""


def cluster_name(name: str, uid: str, attempt: int) -> str:
    """Return the name of the RayCluster of an attempt, a DNS-1035 label with at most 53 characters as KubeRay requires.

    Args:
        name: the name of the Workflow; dots become dashes, and a leading digit is prefixed by a letter.
        uid: the uid of the Workflow.
        attempt: the number of the submission attempt, counted from 1.
    """
    part = name.replace(".", "-")
    if not part[:1].isalpha():
        part = f"w{part}"
    return f"{part[:_NAME_PART].rstrip('-')}-{short_uid(uid)}-{attempt}"


def short_uid(uid: str) -> str:
    """Return the first hex digits of a uid, 40 bits, for names that people read."""
    digits = re.sub(r"[^0-9a-f]", "", uid.lower())
    return (digits + hashlib.sha256(uid.encode()).hexdigest())[:UID_DIGITS]


def submission_id(uid: str, attempt: int) -> str:
    """Return the id of a submission. It contains the whole uid, because a selected cluster serves many Workflows."""
    return f"rwf-{uid}-{attempt}"


def run_uuid(uid: str, run_number: int) -> str:
    """Return the unique id of a run that this Workflow creates under its workflow id."""
    return str(uuid.uuid5(_RUN_NAMESPACE, f"{uid}/{run_number}"))


def default_workflow_id(namespace: str, name: str, uid: str) -> str:
    """Return the workflow id of a Workflow without `spec.workflowId`; no other Workflow can have the same id."""
    return f"{namespace}.{name}.{uid}"


def attempt_of(labels: Mapping[str, str]) -> int:
    """Return the attempt that a RayCluster was created for; 0 if the label is absent or invalid."""
    text = labels.get(ATTEMPT_LABEL, "")
    return int(text) if text.isdecimal() else 0


def cluster_labels(name: str, uid: str, attempt: int) -> dict[str, str]:
    """Return the labels of a RayCluster. Never use `ray.io/cluster`: KubeRay counts and deletes pods by it."""
    return {
        "app.kubernetes.io/name": "rayworkflow",
        "app.kubernetes.io/instance": _label_value(name),
        "app.kubernetes.io/component": "cluster",
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        NAME_LABEL: _label_value(name),
        UID_LABEL: uid,
        ATTEMPT_LABEL: str(attempt),
    }


def cleanup_name(uid: str, run_number: int) -> str:
    """Return the name of the ConfigMap that records a deferred cleanup of a run."""
    return f"rayworkflow-cleanup-{hashlib.sha256(f'{uid}/{run_number}'.encode()).hexdigest()[:16]}"


def _label_value(text: str) -> str:
    """Shorten a text to a valid label value: at most 63 characters, and a letter or digit at the end."""
    return text[:63].rstrip("-._")
