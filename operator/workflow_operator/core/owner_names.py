"""Names the owner of a run for people: the Workflow object by namespace and name, as the log of the run records it.

A submission stores the name of its Workflow in the metadata of the run that it creates. A request from the operator
stores it in its claim. Only if the log contains neither, the uid of the Workflow identifies it.
"""

from __future__ import annotations

import json

from workflow_operator.api import GROUP
from workflow_operator.core.log_view import RunView

NAME_KEY = f"{GROUP}/workflow"
UID_KEY = f"{GROUP}/uid"


def run_metadata(namespace: str, name: str, uid: str) -> dict[str, str]:
    """Return the metadata that name a Workflow in the log of a run which it creates.

    Args:
        namespace: the namespace of the Workflow.
        name: the name of the object, which is unique in its namespace at any time.
        uid: its uid, by which a reader detects that another Workflow owns the run now.
    """
    return {NAME_KEY: f"{namespace}/{name}", UID_KEY: uid}


def owner_name(view: RunView | None) -> str:
    """Return the owner of a run, for example `Workflow team/trip`, or `a driver` for an owner without a Workflow."""
    owner = view.owner if view is not None else None
    if view is None or owner is None:
        return "another owner"
    if not owner.uid:
        return "a driver"
    if owner.manager.startswith("outside-") and "/" in owner.address:
        return f"Workflow {owner.address}"
    metadata = _metadata(view)
    if metadata.get(UID_KEY) == owner.uid and metadata.get(NAME_KEY):
        return f"Workflow {metadata[NAME_KEY]}"
    return f"the Workflow with uid {owner.uid}"


def _metadata(view: RunView) -> dict[str, str]:
    try:
        found = json.loads(view.metadata)
    except ValueError:  # another program wrote it
        return {}
    return found if isinstance(found, dict) else {}
