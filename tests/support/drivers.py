"""Drivers as separate processes: user scripts that start their own Ray, or use a Ray that a test started.

Processes are found by pid below the process that was started. No process is ended by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from dev.processes import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "drivers" / "scripts"


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a driver: without token and dashboard, with the repository on its path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AWS_", "PYTEST_"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        **more,
    }


class Tree:
    """A process with all its descendants.

    Args:
        command: the words of the command line.
        folder: the working directory; the output is written there, too.
        env: the environment.
        stdin: what the first process reads from its standard input.
    """

    def __init__(self, command: Sequence[str], folder: Path, env: dict[str, str], stdin: str = "") -> None:
        self._log = tempfile.NamedTemporaryFile("w+b", prefix="out-", dir=folder, delete=False)  # noqa: SIM115 - closed in kill
        self._process = subprocess.Popen(
            list(command), cwd=folder, env=env, stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(stdin.encode())
        self._process.stdin.close()
        self._known: dict[int, psutil.Process] = {self._process.pid: psutil.Process(self._process.pid)}

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            print(self.output()[-6000:])

    def look_around(self) -> list[psutil.Process]:
        """Return all processes of the tree that still exist, also those whose parents have ended."""
        for process in list(self._known.values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in process.children(recursive=True):
                    self._known.setdefault(child.pid, child)
        return [process for process in self._known.values() if process.is_running()]

    def signal(self, number: int) -> None:
        """Send a signal to every process of the tree."""
        for process in self.look_around():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def freeze(self) -> None:
        """Stop every process, also those that are started in the meantime."""
        frozen: set[int] = set()
        while new := [process for process in self.look_around() if process.pid not in frozen]:
            for process in new:
                frozen.add(process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()

    def thaw(self) -> None:
        """Continue every process after `freeze`."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill all processes at the same time, so that none can react. Returns after all are gone."""
        self.freeze()
        processes = self.look_around()
        self.signal(signal.SIGKILL)
        self._process.wait(30)
        psutil.wait_procs(processes, 30)
        self._log.close()

    def kill_only_the_driver(self) -> None:
        """Kill only the first process."""
        self.look_around()
        self._process.kill()
        self._process.wait(30)

    def ended(self, timeout: float = 120.0) -> int:
        """Wait for the exit of the first process and return its exit code."""
        code = self._process.wait(timeout)
        self._log.flush()
        return code

    def output(self) -> str:
        """Return the output so far."""
        return Path(self._log.name).read_text(errors="replace")

    def printed(self, text: str, timeout: float = 180.0) -> str:
        """Wait until the output contains a text, and return the output."""

        def look() -> str | None:
            out = self.output()
            assert text in out, out[-4000:]
            return out

        return until(look, timeout)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Create a folder with a path that is short enough for the sockets of Ray."""
    folder = Path(tempfile.mkdtemp(prefix="rw", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def driver(
    script: str | Path, *arguments: str, address: str = "", folder: Path | None = None, **env: str
) -> Iterator[Tree]:
    """Run a user script. If no address is given, it starts its own Ray."""
    with short_folder() as ray_folder:
        path = Path(script) if Path(script).is_absolute() else SCRIPTS / script
        where = {"TEST_RAY_FOLDER": str(ray_folder), "TEST_RAY_ADDRESS": address}
        with Tree([sys.executable, str(path), *arguments], folder or ray_folder, environment(**where, **env)) as tree:
            yield tree


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Tree, str]]:
    """Start a Ray that outlives its drivers; yields its processes and its address."""
    with short_folder() as folder:
        port, ports = free_port(), [free_port() for _ in range(4)]
        command = [
            sys.executable, "-m", "tests.support.lean_ray", "start", "--head", "--block", f"--port={port}",
            "--num-cpus=4", f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats",
            f"--ray-client-server-port={ports[0]}", f"--dashboard-agent-listen-port={ports[1]}",
            f"--metrics-export-port={ports[2]}", "--node-ip-address=127.0.0.1",
        ]  # fmt: skip
        with Tree(command, folder, environment()) as tree:
            tree.printed("Ray runtime started")
            yield tree, f"127.0.0.1:{port}"


@contextlib.contextmanager
def joined(address: str, resources: Mapping[str, int]) -> Iterator[Tree]:
    """Start a second node, with another IP address, for a Ray that `cluster` started."""
    with short_folder() as folder:
        command = [
            sys.executable, "-m", "tests.support.lean_ray", "start", "--block", f"--address={address}", "--num-cpus=4",
            "--node-ip-address=127.0.0.2", f"--resources={json.dumps(dict(resources))}", "--disable-usage-stats",
            f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}",
        ]  # fmt: skip
        with Tree(command, folder, environment()) as tree:
            tree.printed("Ray runtime started")
            yield tree
