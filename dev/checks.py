"""`make check`: the checks that every change must pass. All of them run, even if one has failed."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev import paths
from dev.console import print_line

TYPED: Final = ("workflow", "operator/workflow_operator", "dev", "examples", "tests")


@dataclass(frozen=True)
class Check:
    """One program that must exit with 0.

    Attributes:
        name: the line that is printed.
        command: a program of the same environment, and its arguments.
    """

    name: str
    command: tuple[str, ...]


CHECKS: Final = (
    Check("types: mypy --strict", ("mypy", "--strict", *TYPED)),
    Check("lint: ruff check", ("ruff", "check", ".")),
    Check("format: ruff format --check", ("ruff", "format", "--check", ".")),
    Check("import contracts: import-linter", ("lint-imports",)),
    Check("sizes: dev.sizes", ("python", "-m", "dev.sizes")),
    Check("language: dev.prose", ("python", "-m", "dev.prose")),
)


def run(check: Check) -> bool:
    """Run one check and print the result; its output is printed only if it failed."""
    started = time.monotonic()
    program, *arguments = check.command
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "operator"))}
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=paths.ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    passed = done.returncode == 0
    output = "" if passed else "\n" + (done.stdout + done.stderr).rstrip()
    print_line(f"{'ok' if passed else 'FAIL':>4}  {check.name}  {time.monotonic() - started:.1f} s{output}")
    return passed


def main() -> int:
    """Run all checks, two at a time."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        verdicts = list(pool.map(run, CHECKS))
    print_line(f"{sum(verdicts)} of {len(verdicts)} checks passed  {time.monotonic() - started:.1f} s")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
