"""A server is known by a pid that cannot be mistaken for another process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dev.console import SetupError
from dev.processes import Daemon, poll

FOREVER = ["tail", "-f", "/dev/null"]
DEAF = ["sh", "-c", "trap '' TERM; echo deaf; while :; do read line < /dev/zero; done"]


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon("trial", tmp_path)


def test_a_started_server_runs_until_it_is_stopped(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    assert daemon.running()
    daemon.stop()
    assert not daemon.running()
    assert not daemon.pid_file.exists()


def test_starting_again_changes_nothing(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    pid = daemon.pid()
    daemon.start(FOREVER)
    assert daemon.pid() == pid
    daemon.stop()


@pytest.mark.parametrize("changed", ["command", "configuration"])
def test_a_server_that_is_to_run_otherwise_is_started_anew(daemon: Daemon, tmp_path: Path, changed: str) -> None:
    config = tmp_path / "config"
    config.write_text("old")
    daemon.start(FOREVER, config=[config])
    pid = daemon.pid()
    if changed == "configuration":
        config.write_text("new")
    daemon.start([*FOREVER, "/dev/null"] if changed == "command" else FOREVER, config=[config])
    assert daemon.pid() not in (None, pid)
    daemon.stop()


def test_a_killed_server_is_seen_and_starts_again(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    os.kill(daemon.pid() or 0, signal.SIGKILL)
    assert poll(lambda: not daemon.running(), 10)
    daemon.start(FOREVER)
    assert daemon.running()
    daemon.stop()


def test_a_process_that_got_the_same_pid_later_is_left_alone(daemon: Daemon) -> None:
    daemon.pid_file.write_text(f"{os.getpid()} 1 some-other-start\n")
    assert not daemon.running()
    daemon.stop()


@pytest.mark.parametrize("record", ["", "nonsense\n", "1 2\n"], ids=["empty", "words", "too short"])
def test_a_torn_record_counts_as_none(daemon: Daemon, record: str) -> None:
    daemon.pid_file.write_text(record)
    assert not daemon.running()


def test_a_server_deaf_to_the_request_is_killed(daemon: Daemon) -> None:
    daemon.start(DEAF)
    assert poll(lambda: "deaf" in daemon.log.read_text(), 10)
    daemon.stop(grace=0)
    assert not daemon.running()


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "echo the port is taken; exit 3"])
    with pytest.raises(SetupError, match=r"trial ended(?s:.*)the port is taken"):
        daemon.wait(lambda: False, 10)


def test_a_server_that_does_not_answer_is_reported(daemon: Daemon) -> None:
    daemon.start(FOREVER)
    with pytest.raises(SetupError, match="did not answer within 0 s"):
        daemon.wait(lambda: False, 0)
    daemon.stop()


def test_a_missing_program_is_named_with_its_remedy(daemon: Daemon) -> None:
    with pytest.raises(SetupError, match="`no-such-server` is not installed: `make cluster-up`"):
        daemon.start(["no-such-server"])
