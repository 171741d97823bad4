"""Modules as users write them: files in a folder, imported here or by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def write(folder: Path, sources: Mapping[str, str]) -> None:
    """Write modules into a folder.

    Args:
        folder: is created.
        sources: name of a module -> its source, which may be indented.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))


def in_process(program: str, folder: Path | None = None, *args: str, hash_seed: str = "random") -> Any:
    """Execute a program in a new process, and return what it prints, as JSON.

    Args:
        program: its source, which may be indented.
        folder: modules that it can import; None for none.
        *args: its arguments.
        hash_seed: decides the order of sets.
    """
    path = os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *args],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
