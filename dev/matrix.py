"""`make test-matrix`: the library's unit tests and the specification's snippets on each Python and Ray supported.

Not part of CI: it installs Ray five times. Each job has an environment of its own in the cache, keyed by the checkout
and by what it holds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev import paths
from dev.console import SetupError, run, say, stage

TOOLS: Final = ["pytest>=9,<10", "pytest-asyncio>=1.2,<2", "hypothesis>=6.150,<7", "numpy", "pandas", "pyarrow<20"]
UNIT: Final = ["tests/unit/model", "tests/unit/log", "tests/unit/engine", "tests/unit/store"]
SNIPPETS: Final = ["tests/library", "-k", "basics"]
OLD_RAY: Final = ["-W", "ignore::pytest.PytestUnraisableExceptionWarning", "-W", "ignore::ResourceWarning"]
"""Ray 2.47 leaves processes of its own to the garbage collector; each would count as an error of the next test."""


@dataclass(frozen=True)
class Job:
    """One Python with one Ray.

    Attributes:
        python: `3.x`.
        ray: what pip installs.
        tests: arguments of pytest, a run each.
    """

    python: str
    ray: str
    tests: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        return f"Python {self.python}, {self.ray}"


JOBS: Final = (
    Job("3.10", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.11", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.12", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.13", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.11", "ray[default]==2.47.*", ((*SNIPPETS, *OLD_RAY),)),
)


def interpreter(version: str) -> str:
    """An interpreter of this version that really starts.

    Raises:
        SetupError: there is none.
    """
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(managed.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        asked = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.startswith(f"Python {version}."):
            return str(candidate)
    raise SetupError(f"no Python {version} starts here: install python{version}, or leave its job out")


def environment(job: Job) -> Path:
    """The Python of the job's environment, made where it is missing."""
    told = "\n".join([str(paths.ROOT), job.python, job.ray, *TOOLS, (paths.ROOT / "pyproject.toml").read_text()])
    home = paths.cache() / f"matrix-{job.python}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        with stage(f"{job.name}: make its environment"):
            run([interpreter(job.python), "-m", "venv", "--clear", home])
            run([python, "-m", "pip", "install", "--quiet", "--editable", ".", job.ray, *TOOLS], cwd=paths.ROOT)
        (home / "complete").touch()
    return python


def main() -> int:
    """Run every job; one that cannot run is named and counts as failed."""
    verdicts: dict[str, str] = {}
    for job in JOBS:
        try:
            python = environment(job)
            for tests in job.tests:
                with stage(f"{job.name}: {' '.join(tests)}"):
                    run([python, "-m", "pytest", "-q", *tests], cwd=paths.ROOT)
            verdicts[job.name] = "passed"
        except SetupError as failed:
            verdicts[job.name] = f"FAILED: {failed}"
    say("")
    for name, verdict in verdicts.items():
        say(f"{name:<36}{verdict}")
    return 0 if all(verdict == "passed" for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
