"""Start, identification and stop of server processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dev.console import SetupError
from dev.processes import Daemon, poll

FOREVER = ["tail", "-f", "/dev/null"]
IGNORES_SIGTERM = ["sh", "-c", "trap '' TERM; echo ready; while :; do read line < /dev/zero; done"]


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon("trial", tmp_path)


def test_started_server_runs_until_stopped(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    assert daemon.running()
    daemon.stop()
    assert not daemon.running()
    assert not daemon.pid_file.exists()


def test_second_start_keeps_process(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    pid = daemon.pid()
    daemon.start(FOREVER)
    assert daemon.pid() == pid
    daemon.stop()


@pytest.mark.parametrize("changed", ["command", "configuration"])
def test_changed_command_or_configuration_restarts_server(daemon: Daemon, tmp_path: Path, changed: str) -> None:
    config = tmp_path / "config"
    config.write_text("old")
    daemon.start(FOREVER, config=[config])
    pid = daemon.pid()
    if changed == "configuration":
        config.write_text("new")
    daemon.start([*FOREVER, "/dev/null"] if changed == "command" else FOREVER, config=[config])
    assert daemon.pid() not in (None, pid)
    daemon.stop()


def test_killed_server_is_detected_and_can_start_again(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    os.kill(daemon.pid() or 0, signal.SIGKILL)
    assert poll(lambda: not daemon.running(), 10)
    daemon.start(FOREVER)
    assert daemon.running()
    daemon.stop()


def test_stop_ignores_other_process_with_recorded_pid(daemon: Daemon) -> None:
    daemon.pid_file.write_text(f"{os.getpid()} 1 some-other-start\n")
    assert not daemon.running()
    daemon.stop()


@pytest.mark.parametrize("record", ["", "nonsense\n", "1 2\n"], ids=["empty", "words", "too short"])
def test_unreadable_pid_file_is_ignored(daemon: Daemon, record: str) -> None:
    daemon.pid_file.write_text(record)
    assert not daemon.running()


def test_server_that_ignores_sigterm_is_killed(daemon: Daemon) -> None:
    daemon.start(IGNORES_SIGTERM)
    assert poll(lambda: "ready" in daemon.log.read_text(), 10)
    daemon.stop(grace=0)
    assert not daemon.running()


def test_wait_reports_log_of_server_that_exited(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "echo the port is taken; exit 3"])
    with pytest.raises(SetupError, match=r"trial did not start: it exited(?s:.*)the port is taken"):
        daemon.wait(lambda: False, 10)


def test_wait_reports_server_that_is_not_ready(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    with pytest.raises(SetupError, match="it was not ready within 0 s"):
        daemon.wait(lambda: False, 0)
    daemon.stop()


def test_missing_program_is_reported_with_remedy(daemon: Daemon) -> None:
    with pytest.raises(SetupError, match="cannot start `no-such-server`: it is not installed; run `make cluster-up`"):
        daemon.start(["no-such-server"])
