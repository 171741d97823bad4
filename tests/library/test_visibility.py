"""What users see of a step that is attempted again or has no worker, and what a step leaves in its worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray

import workflow
from tests.support.forks import in_forked_child
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.engine.dispatch import ray_runner
from workflow.errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step(name="fails", max_retries=-1)
def fails_until_open(marks: Marks) -> int:
    marks.started("fails")
    if not (Path(marks.folder) / "gate-open").exists():
        raise ValueError("not open")
    return marks.starts()["fails"]


@workflow.step
def settings(before: object = None) -> tuple[str, str | None]:
    return os.getcwd(), os.environ.get("LEFT_BY_A_STEP")


@workflow.step
def leave_settings(before: tuple[str, str | None]) -> tuple[str, str | None]:
    os.chdir("/")
    os.environ["LEFT_BY_A_STEP"] = "x"
    return before


@workflow.step
def both(first: object, second: object) -> tuple[object, object]:
    return first, second


def test_metadata_shows_attempts_and_the_last_error(wid: str, marks: Marks) -> None:
    fails_until_open.step(marks).run_async(wid)
    marks.wait_started("fails", 3)
    shown = until(lambda: found if (found := workflow.get_metadata(wid, "fails"))["attempts"] >= 3 else None)
    assert (shown["last_error"], shown["waiting_for"]) == ("ValueError: not open", None)
    assert set(shown["stats"]) == {"start_time"}
    marks.open("open")
    attempts = ray.get(workflow.get_output(wid))
    finished = workflow.get_metadata(wid, "fails")
    assert (finished["attempts"], finished["last_error"], finished["waiting_for"]) == (attempts, None, None)


def test_reason_of_a_wait_names_what_this_cluster_has(storage: str) -> None:
    missing = ray_runner._explain({"resources": {"nowhere": 1}})
    assert not missing.fits
    assert missing.text.startswith(
        "it requests 1 CPU, 1 nowhere, and the only node of the cluster does not have that; that node has 4 CPU, 0 "
    )
    assert ray_runner._explain({"num_gpus": 1, "label_selector": {"zone": "a"}}).fits


def test_directory_and_variables_do_not_reach_later_steps(wid: str) -> None:
    before = settings.step()
    after = settings.step(leave_settings.step(before))
    first, second = both.step(before, after).run(wid)
    assert first == second


def test_forked_child_of_a_driver_gets_an_error() -> None:
    def work() -> str:
        with pytest.raises(InvalidInputError, match="was forked from process"):
            workflow.list_all()
        return "refused"

    assert in_forked_child(work) == "refused"
