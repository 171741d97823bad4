"""`make test-matrix`: unit tests and specification snippets of the library on each supported Python and Ray version.

CI does not run this, because it installs Ray five times. Each job has its own environment in the cache. The name of the
environment contains a hash of the checkout's path and of the installed requirements.
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
from dev.console import SetupError, print_line, run, stage

TOOLS: Final = ["pytest>=9,<10", "pytest-asyncio>=1.2,<2", "hypothesis>=6.150,<7", "numpy", "pandas", "pyarrow<20"]
UNIT: Final = ["tests/unit/model", "tests/unit/log", "tests/unit/engine", "tests/unit/store"]
SNIPPETS: Final = ["tests/library", "-k", "basics"]
OLD_RAY: Final = ["-W", "ignore::pytest.PytestUnraisableExceptionWarning", "-W", "ignore::ResourceWarning"]
"""Ray 2.47 leaves process objects to the garbage collector. Their warnings would fail the test that runs next."""


@dataclass(frozen=True)
class Job:
    """One Python version with one Ray version.

    Attributes:
        python: the Python version, `3.x`.
        ray: the requirement that pip installs.
        tests: the arguments of each pytest run.
    """

    python: str
    ray: str
    tests: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        """Return the name of the job in the output."""
        return f"Python {self.python}, {self.ray}"


JOBS: Final = (
    Job("3.10", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.11", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.12", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.13", "ray[default]==2.60.*", (tuple(UNIT), tuple(SNIPPETS))),
    Job("3.11", "ray[default]==2.47.*", ((*SNIPPETS, *OLD_RAY),)),
)


def interpreter(version: str) -> str:
    """Return the path of an interpreter of this version that starts.

    Raises:
        SetupError: none is installed.
    """
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(managed.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        completed = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if completed.returncode == 0 and completed.stdout.startswith(f"Python {version}."):
            return str(candidate)
    raise SetupError(
        f"cannot run the jobs of Python {version}: no python{version} on PATH or in pyenv starts; "
        f"install Python {version}, or remove its job from dev/matrix.py"
    )


def environment(job: Job) -> Path:
    """Return the interpreter of the environment of a job. Create the environment if it is missing."""
    inputs = "\n".join([str(paths.ROOT), job.python, job.ray, *TOOLS, (paths.ROOT / "pyproject.toml").read_text()])
    folder = paths.cache() / f"matrix-{job.python}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        with stage(f"{job.name}: create the environment"):
            run([interpreter(job.python), "-m", "venv", "--clear", folder])
            run([python, "-m", "pip", "install", "--quiet", "--editable", ".", job.ray, *TOOLS], cwd=paths.ROOT)
        (folder / "complete").touch()
    return python


def main() -> int:
    """Run all jobs and print their results. A job that cannot run counts as failed."""
    results: dict[str, str] = {}
    for job in JOBS:
        try:
            python = environment(job)
            for tests in job.tests:
                with stage(f"{job.name}: {' '.join(tests)}"):
                    run([python, "-m", "pytest", "-q", *tests], cwd=paths.ROOT)
            results[job.name] = "passed"
        except SetupError as error:
            results[job.name] = f"FAILED: {error}"
    print_line("")
    for name, result in results.items():
        print_line(f"{name:<36}{result}")
    return 0 if all(result == "passed" for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
