"""Finds and loads the library's parts: bundled dependencies, and public names at their first use."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

BUNDLE: Final = "rayworkflow_deps"
"""Folder next to the package, if the library was uploaded to a cluster as a zip. It contains the third-party packages
that reading and writing the log needs. A second folder, with the name of the machine, has their extension modules."""

_NAMES_BY_MODULE: Final = {
    "workflow.errors": ("WorkflowExecutionError",),
    "workflow.event_listener": ("EventListener",),
    "workflow.inspection": ("get_metadata", "get_output", "get_status", "list_all"),
    "workflow.model.status": ("WorkflowStatus",),
    "workflow.ray_dags": ("continuation", "create"),
    "workflow.session": ("init",),
    "workflow.steps": ("Workflow", "step"),
    "workflow.waits": ("sleep", "wait", "wait_for_event"),
}
_MODULE_OF: Final = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def use_bundled_dependencies() -> None:
    """Add the bundled dependencies to the end of the path, so that packages of the user's image come first.

    Raises:
        ImportError: the bundle does not support this machine or Python version, and the image lacks the packages.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / BUNDLE).is_dir():
        return
    machine = os.uname().machine
    for folder in (root / BUNDLE, root / f"{BUNDLE}_{machine}"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    _check_extensions(root, machine)


def _check_extensions(root: Path, machine: str) -> None:
    bundled = list(root.glob(f"{BUNDLE}_*/*"))
    if all(importlib.util.find_spec(path.name.split(".")[0]) for path in bundled if "-info" not in path.suffix):
        return
    tagged = [re.search(r"\.cpython-3(\d+)-", path.name) for path in bundled]
    pythons = sorted({int(found[1]) for found in tagged if found})
    versions = ", ".join(f"3.{minor}" for minor in pythons)
    machines = sorted(path.name.removeprefix(f"{BUNDLE}_") for path in root.glob(f"{BUNDLE}_*"))
    raise ImportError(
        f"the package of rayworkflow that was uploaded to this cluster does not support Python {sys.version_info[0]}."
        f"{sys.version_info[1]} on {machine}; use an image with Python {versions} for {' or '.join(machines)}, or "
        "install rayworkflow in the image"
    )


def load(name: str) -> Any:
    """Return a public name of `workflow`. Names that are not in the table are in `workflow.api`.

    Raises:
        ImportError: the name needs Ray, which is not installed; the text contains the command that installs it.
    """
    try:
        return getattr(importlib.import_module(_MODULE_OF.get(name, "workflow.api")), name)
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError(
            f"workflow.{name} needs Ray, which is not installed here; run: pip install 'rayworkflow[ray]'"
        ) from error
