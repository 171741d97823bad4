"""What the set-up says while it works: one line a stage with its time, and a sign of life in long ones.

Called by every part of `dev`. Plain prints: the same text serves a terminal and a log file of CI.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

HEARTBEAT_SECONDS: Final = 10.0
INSTALL_REMEDY: Final = "`make cluster-up` installs what the cluster needs"
_TAIL_LINES: Final = 30


class SetupError(Exception):
    """A stage failed; the text says which one and what to do about it."""


def say(text: str) -> None:
    """Print one line at once, in one piece: other threads print too."""
    print(f"{text}\n", end="", flush=True)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Print one line with the seconds when the block ends, and a heartbeat while it lasts.

    Args:
        name: what the block does, in the words of the reader.
    """
    started = time.monotonic()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            say(f"  ..  {name} ({time.monotonic() - started:.0f} s so far)")

    heart = threading.Thread(target=beat, name=f"heartbeat of {name}", daemon=True)
    heart.start()
    verdict = "FAIL"
    try:
        yield
        verdict = "ok"
    finally:
        ended.set()
        heart.join()
        say(f"{verdict:>4}  {name}  {time.monotonic() - started:.1f} s")


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command to its end, with no terminal.

    Args:
        command: the program and its arguments.
        cwd: where it runs.
        env: the whole environment, or None for this process's own.
        stdin: the text it reads.

    Returns:
        What it wrote to its standard output.

    Raises:
        SetupError: it ended with another code than 0; the last lines it wrote are in the text.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as missing:
        raise SetupError(f"`{words[0]}` is not installed: {INSTALL_REMEDY}") from missing
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL_LINES:])
        raise SetupError(f"`{' '.join(words[:6])}` ended with {done.returncode}:\n{tail}")
    return done.stdout
