"""Where this machine keeps what the project built (cache) and what a running cluster needs (state).

Both lie outside the checkout, so that a fresh clone is warm and `git clean` breaks nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ROOT / "dev" / "tools"


def cache() -> Path:
    """The folder of built parts, keyed by their versions: `RAYWORKFLOW_CACHE` or the user's cache folder."""
    set_by_user = os.environ.get("RAYWORKFLOW_CACHE")
    folder = Path(set_by_user) if set_by_user else Path.home() / ".cache" / "rayworkflow"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def state() -> Path:
    """The folder of the one local cluster: `RAYWORKFLOW_STATE` or a folder of the system's state."""
    set_by_user = os.environ.get("RAYWORKFLOW_STATE")
    return Path(set_by_user).resolve() if set_by_user else Path("/var/lib/rayworkflow-dev")
