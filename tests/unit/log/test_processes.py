"""The end of a process is proven by its pid and start time, and only on the machine where it ran."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from workflow.log import processes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_running_processes_have_not_ended(child: subprocess.Popen[bytes]) -> None:
    assert not processes.have_ended(processes.describe([os.getpid(), child.pid]))


def test_a_killed_process_has_ended_before_it_is_waited_for(child: subprocess.Popen[bytes]) -> None:
    """As in a container whose first process waits for no child: such a process stays as a zombie."""
    described = processes.describe([child.pid])
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.have_ended(described)
    child.wait()
    assert processes.have_ended(described)


def test_waits_until_a_process_has_ended(child: subprocess.Popen[bytes]) -> None:
    described = processes.describe([child.pid])
    assert child.stdin is not None
    threading.Timer(0.1, child.stdin.close).start()
    assert processes.wait_until_ended(described, 30)
    assert processes.wait_until_ended(described, 30)


def test_wait_for_a_process_is_limited(child: subprocess.Popen[bytes]) -> None:
    described = processes.describe([child.pid, os.getpid()])
    assert not processes.wait_until_ended(described, 0.05)
    assert not processes.wait_until_ended(described, -1.0)


def test_processes_of_another_machine_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    described = processes.describe([os.getpid()])
    monkeypatch.setattr(processes, "this_machine", lambda: "0123456789ab")
    began = time.monotonic()
    assert not processes.wait_until_ended(described, 30)
    assert time.monotonic() - began < 15


def test_all_described_processes_must_have_ended(child: subprocess.Popen[bytes]) -> None:
    described = processes.describe([child.pid, os.getpid()])
    child.kill()
    child.wait()
    assert not processes.have_ended(described)


def test_another_process_with_the_same_pid_is_not_mistaken(child: subprocess.Popen[bytes]) -> None:
    machine, process = processes.describe([child.pid]).split()
    pid, start = process.split("-")
    assert processes.have_ended(f"{machine} {pid}-{int(start) - 1}")


def test_nothing_is_known_of_another_machine(monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]) -> None:
    described = processes.describe([child.pid])
    child.kill()
    child.wait()
    monkeypatch.setattr(processes, "this_machine", lambda: "0123456789ab")
    assert not processes.have_ended(described)


@pytest.mark.parametrize("text", ["", "0123456789ab", "12-3", "x 1-2", "0123456789ab 1", "0123456789ab 1-2 "])
def test_a_text_that_describes_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(processes, "this_machine", lambda: "0123456789ab")
    assert not processes.have_ended(text)


def test_a_process_that_hides_its_start_is_not_proven_dead(
    monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    """As on a machine that hides the processes of other users (`hidepid`)."""
    described = processes.describe([child.pid])
    monkeypatch.setattr(processes, "_read", lambda path: "")
    assert not processes.have_ended(described)


@pytest.mark.parametrize("unreadable", ["boot_id", "start_time"])
def test_a_process_is_not_described_if_something_is_unknown(monkeypatch: pytest.MonkeyPatch, unreadable: str) -> None:
    monkeypatch.setattr(processes, unreadable, lambda *args: "")
    processes.this_machine.cache_clear()
    try:
        assert processes.describe([os.getpid()]) == ""
    finally:
        monkeypatch.undo()
        processes.this_machine.cache_clear()


@pytest.mark.parametrize("changed", ["start", "machine", "host name", "pids"])
def test_machine_after_a_start_or_in_a_container_is_another(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    before = processes.this_machine()
    read = processes._read
    changes: dict[str, tuple[object, str, object]] = {
        "start": (processes, "boot_id", lambda: "another start"),
        "machine": (processes, "_read", lambda path: "another" if path == "/etc/machine-id" else read(path)),
        "host name": (socket, "gethostname", lambda: "another"),
        "pids": (os, "readlink", lambda path: "another" if path == "/proc/self/ns/pid" else ""),
    }
    monkeypatch.setattr(*changes[changed])
    processes.this_machine.cache_clear()
    try:
        assert processes.this_machine() not in ("", before)
    finally:
        monkeypatch.undo()
        processes.this_machine.cache_clear()


def test_nothing_is_described_or_proven_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    described = processes.describe([os.getpid()])
    monkeypatch.setattr(os, "readlink", missing)
    processes.this_machine.cache_clear()
    try:
        assert processes.this_machine() == processes.describe([os.getpid()]) == ""
        assert not processes.have_ended(described)
    finally:
        monkeypatch.undo()
        processes.this_machine.cache_clear()


def test_process_of_another_user_is_judged_by_its_start(
    monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    def refuse(pid: int, signal: int) -> None:
        assert signal == 0
        raise PermissionError

    described = processes.describe([child.pid])
    machine, process = described.split()
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        assert not processes.have_ended(described)
        assert processes.have_ended(f"{machine} {process}1")


def test_nothing_is_read_of_a_process_that_has_ended(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert (processes.start_time(child.pid), processes.name(child.pid), processes.parent(child.pid)) == ("", "", 0)
    assert processes.describe([os.getpid(), child.pid]) == ""


def test_parent_and_name_of_a_process(child: subprocess.Popen[bytes]) -> None:
    assert processes.parent(child.pid) == os.getpid()
    assert processes.name(os.getpid()) != ""
    assert processes.last_pid(processes.describe([os.getpid(), child.pid])) == child.pid
    assert processes.last_pid("") == 0
