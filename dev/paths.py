"""Folders for build results (the cache) and for the running cluster (the state).

Both folders are outside the checkout. A fresh clone therefore reuses earlier builds, and `git clean` deletes nothing
that a running cluster needs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ROOT / "dev" / "tools"


def cache() -> Path:
    """Return the cache folder: `RAYWORKFLOW_CACHE`, or `~/.cache/rayworkflow` if the variable is not set."""
    configured = os.environ.get("RAYWORKFLOW_CACHE")
    folder = Path(configured) if configured else Path.home() / ".cache" / "rayworkflow"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def state() -> Path:
    """Return the state folder: `RAYWORKFLOW_STATE`, or `/var/lib/rayworkflow-dev` if the variable is not set."""
    configured = os.environ.get("RAYWORKFLOW_STATE")
    return Path(configured).resolve() if configured else Path("/var/lib/rayworkflow-dev")
