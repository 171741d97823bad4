"""Servers that outlive the command that started them, known by a recorded pid.

Called by the control plane, the node and the single servers of tests. A pid alone may have been given to another
process since; it is recorded together with the process's start time, so that only what was started is ever stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from dev.console import INSTALL_REMEDY, SetupError

_POLL_SECONDS: Final = 0.1
_TAIL_LINES: Final = 20
_LINE_LENGTH: Final = 300


class Daemon:
    """One server process, its log file and its pid file.

    Args:
        name: the server's name; its files are called by it.
        folder: where its pid file and its log lie.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.pid_file = folder / f"{name}.pid"
        self.log = folder / f"{name}.log"

    def start(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, config: Sequence[Path] = ()
    ) -> None:
        """Start the server in its own session, unless it runs with just this command and configuration.

        Args:
            command: the program and its arguments.
            env: what it finds in its environment beside this process's own.
            config: files it reads once when it starts.
        """
        started_as = _fingerprint(command, config)
        if self.running() and self._recorded()[2] == started_as:
            return
        self.stop()
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid = _spawn([str(word) for word in command], {**os.environ, **(env or {})}, self.log)
        self.pid_file.write_text(f"{pid} {_started(pid)} {started_as}\n")

    def running(self) -> bool:
        """Whether the recorded process is alive and is the one that was started."""
        return self.pid() is not None

    def pid(self) -> int | None:
        """The recorded process, if it is alive and is the one that was started."""
        pid, started, _ = self._recorded()
        _reap(pid)
        return pid if started and _started(pid) == started else None

    def stop(self, grace: float = 10.0) -> None:
        """Ask the server to end, make it end after `grace` seconds, and forget it."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if not poll(lambda: self.pid() is None, grace):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                poll(lambda: self.pid() is None, grace)
        self.pid_file.unlink(missing_ok=True)

    def wait(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the server answers.

        Args:
            ready: says whether it does.
            seconds: how long at most.

        Raises:
            SetupError: it ended, or did not answer in time; the end of its log is in the text.
        """
        if poll(lambda: not self.running() or ready(), seconds) and self.running():
            return
        how = f"did not answer within {seconds:.0f} s" if self.running() else "ended"
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        raise SetupError(
            f"{self.name} {how}; the end of {self.log}:\n" + "\n".join(line[:_LINE_LENGTH] for line in lines)
        )

    def _recorded(self) -> tuple[int, str, str]:
        """The recorded pid, its start time and how it was started; an unreadable record is as good as none."""
        try:
            pid, started, started_as = self.pid_file.read_text().split()
            return int(pid), started, started_as
        except (FileNotFoundError, ValueError):
            return 0, "", ""


def poll(ready: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again, for foreign systems that give no event.

    Args:
        ready: what to ask.
        seconds: how long at most.

    Returns:
        Whether `ready` said yes in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def write(path: Path, content: str) -> Path:
    """Write a server's configuration, unless it says just that: kube-proxy ends itself when its file is touched.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
    return path


def free_port() -> int:
    """A port of the loopback device that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _started(pid: int) -> str:
    """The process's start time in clock ticks since boot, or "" when it is gone or nothing but a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # While a thread is left, a killed process still holds its ports.
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" and threads <= 1 else fields[19]


def _spawn(words: list[str], env: dict[str, str], log: Path) -> int:
    # Not subprocess.Popen: its objects complain when they are dropped before the server they started.
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), appended, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        return os.posix_spawnp(words[0], words, env, file_actions=files, setsid=True)
    except FileNotFoundError as missing:
        raise SetupError(f"`{words[0]}` is not installed: {INSTALL_REMEDY}") from missing


def _fingerprint(command: Sequence[str | Path], config: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(str(word) for word in command).encode())
    for path in config:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _reap(pid: int) -> None:
    if pid == 0:
        return
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
