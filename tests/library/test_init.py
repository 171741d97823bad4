"""`workflow.init`: arguments that it accepts and refuses, defaults, and which processes of a job use the storage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import workflow
from tests.support.drivers import Tree, driver
from tests.support.stored import in_folder
from workflow import WorkflowStatus
from workflow.errors import InvalidInputError, StoreRefusedError, WrongTypeError
from workflow.store import open_store

ELSEWHERE = "elsewhere"


@pytest.fixture(autouse=True)
def given(storage: str, tmp_path: Path) -> Iterator[Path]:
    """A folder for `init` of this test alone. After the test, the storage of the module is in use again."""
    yield tmp_path / "made" / "here"
    workflow.init(storage)


@workflow.step
def one() -> int:
    return 1


@workflow.step
def calls_init() -> int:
    workflow.init()
    return one.step().run()


@ray.remote
def runs(workflow_id: str) -> int:
    return one.step().run(workflow_id)


@ray.remote
def runs_after_init(workflow_id: str) -> int:
    workflow.init()
    return one.step().run(workflow_id)


def stored_in(folder: Path) -> set[str]:
    """Return the ids of the workflows that are stored in a folder."""
    return {key.split("/")[1] for key in in_folder(folder) if key.startswith("workflows/")}


# --- arguments ---


@pytest.mark.parametrize("kind", [str, Path], ids=["text", "path"])
def test_init_accepts_a_folder_and_logs_its_address(
    kind: Callable[[Path], Any], given: Path, wid: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workflow")
    workflow.init(kind(given))
    assert f"workflows are stored at {open_store(str(given)).url}" in caplog.text
    assert workflow.list_all() == []
    one.step().run(wid)
    assert stored_in(given) == {wid}


@pytest.mark.parametrize("storage_url", ["ftp://host/x", "s3://", ""], ids=["ftp", "no bucket", "empty"])
def test_init_refuses_an_invalid_address(storage_url: str) -> None:
    with pytest.raises(InvalidInputError):
        workflow.init(storage_url)


@pytest.mark.parametrize("bad", [7, b"/tmp/store", ["/tmp/store"]], ids=["number", "bytes", "list"])
def test_init_refuses_other_types_than_text_and_path(bad: Any) -> None:
    with pytest.raises(
        TypeError, match="storage must be an address or a folder, as a string or a path, not "
    ) as refused:
        workflow.init(bad)
    assert isinstance(refused.value, WrongTypeError)


def test_init_refuses_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((InvalidInputError, StoreRefusedError)):
        workflow.init(str(tmp_path / "file"))


# --- without an argument ---


@pytest.fixture
def another_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The storage that `init` would use if the job had none."""
    monkeypatch.setenv("RAYWORKFLOW_STORAGE", str(tmp_path / ELSEWHERE))
    return tmp_path / ELSEWHERE


def test_init_without_argument_keeps_the_storage_of_the_job(given: Path, another_default: Path, wid: str) -> None:
    workflow.init(str(given))
    workflow.init()
    one.step().run(wid)
    assert stored_in(given) == {wid}
    assert not another_default.exists()


def test_init_without_argument_in_a_task_keeps_the_storage(given: Path, another_default: Path, wid: str) -> None:
    workflow.init(str(given))
    where = {"env_vars": {"RAYWORKFLOW_STORAGE": str(another_default)}}
    assert ray.get(runs_after_init.options(runtime_env=where).remote(wid)) == 1
    assert workflow.get_status(wid) is WorkflowStatus.SUCCESSFUL
    one.step().run(f"{wid}-later")
    assert stored_in(given) == {wid, f"{wid}-later"}
    assert not another_default.exists()


def test_init_without_argument_in_a_step_keeps_the_storage(given: Path, another_default: Path, wid: str) -> None:
    workflow.init(str(given))
    where = {"env_vars": {"RAYWORKFLOW_STORAGE": str(another_default)}}
    assert calls_init.options(runtime_env=where).step().run(wid) == 1
    one.step().run(f"{wid}-later")
    assert {wid, f"{wid}-later"} < stored_in(given)
    assert not another_default.exists()


SCRIPT = """
import os
import ray
import workflow

ray.init(address=os.environ["TEST_RAY_ADDRESS"])
workflow.init()
print("value", workflow.step(lambda: 1).step().run("w"))
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param(lambda tmp: {"XDG_STATE_HOME": str(tmp)}, "rayworkflow", id="state directory of the user"),
        pytest.param(
            lambda tmp: {"XDG_STATE_HOME": str(tmp), "RAYWORKFLOW_STORAGE": str(tmp / ELSEWHERE)},
            ELSEWHERE,
            id="environment variable",
        ),
    ],
)
def test_init_without_any_storage_uses_environment_or_default(
    environment: Callable[[Path], dict[str, str]], expected: str, tmp_path: Path, ray_outside: tuple[Tree, str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with driver(script, address=ray_outside[1], **{"RAYWORKFLOW_STORAGE": "", **environment(tmp_path)}) as run:
        assert run.ended() == 0
        assert "value 1" in run.output()
    assert stored_in(tmp_path / expected) == {"w"}
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {expected}


# --- other processes of the job ---


def test_ray_tasks_use_the_storage_of_their_job(wid: str) -> None:
    assert ray.get(runs.remote(wid)) == 1
    assert workflow.get_status(wid) is WorkflowStatus.SUCCESSFUL


def test_actor_uses_the_storage_of_the_last_init(wid: str, given: Path, storage: str) -> None:
    @ray.remote
    class Reader:
        def statuses(self) -> list[str]:
            return [workflow_id for workflow_id, _ in workflow.list_all()]

    reader = Reader.remote()
    one.step().run(wid)
    assert wid in ray.get(reader.statuses.remote())
    workflow.init(str(given))
    assert ray.get(reader.statuses.remote()) == []
    workflow.init(storage)
    assert wid in ray.get(reader.statuses.remote())
