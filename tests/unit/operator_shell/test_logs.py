"""What the operator says is one JSON object a line, whoever says it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from workflow_operator import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    structlog.get_logger("ours").info("said", workflow="trip")
    logging.getLogger("theirs").warning("heard %s", "this")
    structlog.get_logger("ours").debug("not said")
    logging.getLogger("kopf.watching").info("not heard")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("ours", "info", "said"),
        ("theirs", "warning", "heard this"),
    ]
    assert lines[0]["workflow"] == "trip"


def test_a_traceback_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    try:
        raise ValueError("a bug")
    except ValueError:
        structlog.get_logger("ours").exception("bug in a round")
    (line,) = capsys.readouterr().out.splitlines()
    assert "ValueError: a bug" in json.loads(line)["exception"]
