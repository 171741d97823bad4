"""Server processes that outlive the command that started them.

The control plane, the node and the single servers of tests use this module. Each server has a pid file. The kernel can
give the same pid to another process later, so the file also records the start time of the process. A server is stopped
only if both match.
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
    """One server process with its log file and its pid file.

    Args:
        name: the name of the server, used for both file names.
        folder: the folder of both files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.pid_file = folder / f"{name}.pid"
        self.log = folder / f"{name}.log"

    def start(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, config: Sequence[Path] = ()
    ) -> None:
        """Start the server in its own session, unless it already runs with the same command and configuration.

        If it runs with another command or configuration, it is stopped first.

        Args:
            command: the program and its arguments.
            env: variables that are added to the environment of this process.
            config: files that the server reads only at its start.
        """
        fingerprint = _fingerprint(command, config)
        if self.running() and self._read_record()[2] == fingerprint:
            return
        self.stop()
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid = _spawn([str(word) for word in command], {**os.environ, **(env or {})}, self.log)
        self.pid_file.write_text(f"{pid} {_start_time(pid)} {fingerprint}\n")

    def running(self) -> bool:
        """Return whether the recorded process is alive."""
        return self.pid() is not None

    def pid(self) -> int | None:
        """Return the recorded pid if that process is alive and has the recorded start time, else None."""
        pid, start_time, _ = self._read_record()
        _reap(pid)
        return pid if start_time and _start_time(pid) == start_time else None

    def stop(self, grace: float = 10.0) -> None:
        """Send SIGTERM, send SIGKILL if the server still runs after the grace period, and delete the pid file.

        Args:
            grace: the grace period in seconds.
        """
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
        """Wait until the server is ready.

        Args:
            ready: returns whether the server is ready.
            seconds: the timeout.

        Raises:
            SetupError: the server exited or was not ready in time. The message contains the end of its log.
        """
        if poll(lambda: not self.running() or ready(), seconds) and self.running():
            return
        cause = f"it was not ready within {seconds:.0f} s" if self.running() else "it exited"
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        raise SetupError(
            f"{self.name} did not start: {cause}; fix the cause that its log names, then try again; "
            f"the end of {self.log}:\n" + "\n".join(line[:_LINE_LENGTH] for line in lines)
        )

    def _read_record(self) -> tuple[int, str, str]:
        """Return pid, start time and fingerprint; a missing or unreadable file gives pid 0 and empty strings."""
        try:
            pid, start_time, fingerprint = self.pid_file.read_text().split()
            return int(pid), start_time, fingerprint
        except (FileNotFoundError, ValueError):
            return 0, "", ""


def poll(ready: Callable[[], bool], seconds: float) -> bool:
    """Call a function repeatedly until it returns True, for systems that send no notification.

    Args:
        ready: the function.
        seconds: the timeout.

    Returns:
        Whether `ready` returned True in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def write_if_changed(path: Path, content: str) -> Path:
    """Write a configuration file, unless it already has this content.

    An unchanged file must not be written again, because kube-proxy exits on every write to its configuration.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
    return path


def free_port() -> int:
    """Return a port of the loopback device that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot, or "" if it is gone or only a zombie is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A killed process keeps its ports until its last thread is gone.
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" and threads <= 1 else fields[19]


def _spawn(words: list[str], env: dict[str, str], log: Path) -> int:
    # A subprocess.Popen object would warn if it is dropped before the server exits.
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    file_actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        return os.posix_spawnp(words[0], words, env, file_actions=file_actions, setsid=True)
    except FileNotFoundError as error:
        raise SetupError(f"cannot start `{words[0]}`: it is not installed; {INSTALL_REMEDY}") from error


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
