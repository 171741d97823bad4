"""One builder for each name that the operator gives. All are pure functions of the object and a number, so that what
was made before a crash is found again.

Called by `decide` and by whoever must recognise what is ours.
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

_RUNS = uuid.UUID("5a1ad9c0-3f0e-5d39-9f0c-6a4a3f1c2d11")
_NAME_PART = 24


def cluster_name(name: str, uid: str, attempt: int) -> str:
    """Name of the RayCluster of an attempt: DNS-1035 and at most 53 characters, which is what KubeRay takes.

    Args:
        name: the Workflow's name; dots become dashes, and a leading digit gets a letter before it.
        uid: the Workflow's uid.
        attempt: from 1.
    """
    part = name.replace(".", "-")
    if not part[:1].isalpha():
        part = f"w{part}"
    return f"{part[:_NAME_PART].rstrip('-')}-{short_uid(uid)}-{attempt}"


def short_uid(uid: str) -> str:
    """Five hex digits of a uid, for names that people read."""
    digits = re.sub(r"[^0-9a-f]", "", uid.lower())
    return (digits + hashlib.sha256(uid.encode()).hexdigest())[:5]


def submission_id(uid: str, attempt: int) -> str:
    """Id of an attempt's submission; the whole uid, because a reused cluster serves many objects."""
    return f"rwf-{uid}-{attempt}"


def run_uuid(uid: str, run_number: int) -> str:
    """Id of the run that this object makes as the n-th under its workflow id."""
    return str(uuid.uuid5(_RUNS, f"{uid}/{run_number}"))


def default_workflow_id(namespace: str, name: str, uid: str) -> str:
    """Workflow id of an object that names none: its own for ever."""
    return f"{namespace}.{name}.{uid}"


def attempt_of(labels: Mapping[str, str]) -> int:
    """The attempt that a RayCluster of ours was made for; 0 where the label is absent or unreadable."""
    text = labels.get(ATTEMPT_LABEL, "")
    return int(text) if text.isdecimal() else 0


def cluster_labels(name: str, uid: str, attempt: int) -> dict[str, str]:
    """Labels of a RayCluster of ours. Never `ray.io/cluster`: KubeRay counts and deletes by it."""
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
    """Name of the ConfigMap that notes what is owed to a run after its object has gone."""
    return f"rayworkflow-cleanup-{hashlib.sha256(f'{uid}/{run_number}'.encode()).hexdigest()[:16]}"


def _label_value(text: str) -> str:
    """A label's value holds 63 characters and ends with a letter or digit."""
    return text[:63].rstrip("-._")
