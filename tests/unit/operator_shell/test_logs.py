"""Logs: each message is one JSON object on one line, for structlog and for `logging`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from workflow_operator import logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_each_message_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    structlog.get_logger("operator").info("logged", workflow="trip")
    logging.getLogger("library").warning("formatted %s", "text")
    structlog.get_logger("operator").debug("below the level")
    logging.getLogger("kopf.watching").info("below the level of kopf")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("operator", "info", "logged"),
        ("library", "warning", "formatted text"),
    ]
    assert lines[0]["workflow"] == "trip"


def test_traceback_is_on_the_line_of_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    try:
        raise ValueError("a bug")
    except ValueError:
        structlog.get_logger("operator").exception("unexpected error")
    (line,) = capsys.readouterr().out.splitlines()
    assert "ValueError: a bug" in json.loads(line)["exception"]
