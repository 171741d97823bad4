"""Progress output of the setup: one line per stage with its duration, and a progress line during long stages.

All modules of `dev` print through this module. It uses plain prints, so the output suits a terminal and a CI log.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

PROGRESS_SECONDS: Final = 10.0
INSTALL_REMEDY: Final = "run `make cluster-up`, which installs the packages of the local cluster"
_TAIL_LINES: Final = 30


class SetupError(Exception):
    """A setup stage failed. The message names the stage, the cause and the remedy."""


def print_line(text: str) -> None:
    """Print one line in one piece, because other threads print too, and flush it."""
    print(f"{text}\n", end="", flush=True)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Print a progress line every 10 seconds while the block runs, and a result line with its duration when it ends.

    Args:
        name: what the block does, for example `build image ray`.
    """
    started = time.monotonic()
    finished = threading.Event()

    def print_progress() -> None:
        while not finished.wait(PROGRESS_SECONDS):
            print_line(f"  ..  {name} ({time.monotonic() - started:.0f} s so far)")

    printer = threading.Thread(target=print_progress, name=f"progress of {name}", daemon=True)
    printer.start()
    result = "FAIL"
    try:
        yield
        result = "ok"
    finally:
        finished.set()
        printer.join()
        print_line(f"{result:>4}  {name}  {time.monotonic() - started:.1f} s")


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command without a terminal and wait until it exits.

    Args:
        command: the program and its arguments.
        cwd: the working directory; None means the one of this process.
        env: the complete environment; None means the one of this process.
        stdin: the text for its standard input; None means empty.

    Returns:
        The standard output of the command.

    Raises:
        SetupError: the program is not installed, or its exit code is not 0. The message contains the end of its output.
    """
    words = [str(word) for word in command]
    try:
        completed = subprocess.run(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise SetupError(f"cannot run `{words[0]}`: it is not installed; {INSTALL_REMEDY}") from error
    if completed.returncode != 0:
        tail = "\n".join((completed.stdout + completed.stderr).strip().splitlines()[-_TAIL_LINES:])
        raise SetupError(
            f"`{' '.join(words[:6])}` failed: exit code {completed.returncode}; "
            f"fix the cause that its output names, then try again:\n{tail}"
        )
    return completed.stdout
