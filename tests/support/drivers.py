"""Drivers in processes of their own: user scripts with a Ray of their own, or on a Ray that a test started.

Every process is known by its pid from the tree below the one that was started; nothing is ever ended by name.
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
SCRIPTS = ROOT / "tests" / "library" / "scripts"


def environment(**more: str) -> dict[str, str]:
    """What a driver's process sees: no token, no dashboard, the checkout on its path."""
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
    """A process with all below it.

    Args:
        command: the words of the command line.
        folder: its working directory, and where its output goes.
        env: its environment.
    """

    def __init__(self, command: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self._log = tempfile.NamedTemporaryFile("w+b", prefix="out-", dir=folder, delete=False)  # noqa: SIM115 - closed in kill
        self._process = subprocess.Popen(
            list(command), cwd=folder, env=env, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
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
        """All processes of the tree that still exist; those found once stay known when their parents end."""
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
        """Stop every process, until none is left that could start another."""
        frozen: set[int] = set()
        while new := [process for process in self.look_around() if process.pid not in frozen]:
            for process in new:
                frozen.add(process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()

    def thaw(self) -> None:
        """Let every process go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for all at once: nobody has time to say anything. Returns once all are gone."""
        self.freeze()
        everybody = self.look_around()
        self.signal(signal.SIGKILL)
        self._process.wait(30)
        psutil.wait_procs(everybody, 30)
        self._log.close()

    def kill_only_the_driver(self) -> None:
        """SIGKILL for the first process alone."""
        self.look_around()
        self._process.kill()
        self._process.wait(30)

    def ended(self, timeout: float = 120.0) -> int:
        """Its exit code, once it has one."""
        code = self._process.wait(timeout)
        self._log.flush()
        return code

    def output(self) -> str:
        """What it printed."""
        return Path(self._log.name).read_text(errors="replace")

    def printed(self, text: str, timeout: float = 180.0) -> str:
        """Its output, once it holds a text."""

        def look() -> str | None:
            out = self.output()
            assert text in out, out[-4000:]
            return out

        return until(look, timeout)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="rw", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def driver(
    script: str | Path, *arguments: str, address: str = "", folder: Path | None = None, **env: str
) -> Iterator[Tree]:
    """Run a user script; with a Ray of its own where no address is given."""
    with short_folder() as ray_folder:
        path = Path(script) if Path(script).is_absolute() else SCRIPTS / script
        where = {"TEST_RAY_FOLDER": str(ray_folder), "TEST_RAY_ADDRESS": address}
        with Tree([sys.executable, str(path), *arguments], folder or ray_folder, environment(**where, **env)) as tree:
            yield tree


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Tree, str]]:
    """A Ray that outlives its drivers, and its address."""
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
    """A second node of a Ray that `cluster` started, at an address of its own."""
    with short_folder() as folder:
        command = [
            sys.executable, "-m", "tests.support.lean_ray", "start", "--block", f"--address={address}", "--num-cpus=4",
            "--node-ip-address=127.0.0.2", f"--resources={json.dumps(dict(resources))}", "--disable-usage-stats",
            f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}",
        ]  # fmt: skip
        with Tree(command, folder, environment()) as tree:
            tree.printed("Ray runtime started")
            yield tree
