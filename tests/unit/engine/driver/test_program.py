"""A process describes its program: equal for the whole process, and different for every other process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support import user_modules
from workflow.engine.driver import program
from workflow.engine.driver.program import program_here
from workflow.engine.worker import context
from workflow.log import processes
from workflow.model.program import Program, is_same_program


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(context, "_process", context._Process())
    _forget()
    yield
    _forget()


def _forget() -> None:
    program._process.cache_clear()
    processes.boot_id.cache_clear()


DESCRIBED = """
    import dataclasses, json
    from workflow.engine.driver.program import program_here
    print(json.dumps(dataclasses.astuple(program_here())))
"""


def test_two_processes_share_the_host_and_not_the_process() -> None:
    here = program_here()
    other = Program(*user_modules.in_process(DESCRIBED))
    assert here.host == other.host != ""
    assert here.process != other.process
    assert is_same_program(other, here, "/trip.py", "/trip.py")
    assert not is_same_program(other, here, "", "")


def test_description_is_equal_for_the_whole_process() -> None:
    assert program_here() == program_here()
    assert f"-{os.getpid()}-" in program_here().process


def test_name_is_that_of_init() -> None:
    assert program_here().name == ""
    context.set_program_name("shop")
    assert program_here().name == "shop"


def test_containers_of_a_machine_are_different_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = program_here().host
    monkeypatch.setattr("socket.gethostname", lambda: "another-container")
    assert program_here().host != before


def test_process_with_the_same_id_after_a_restart_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str) -> str:
        return (
            "boot-2" if path.endswith("boot_id") else f"{os.getpid()} (a (program) x) S {' '.join(map(str, range(30)))}"
        )

    before = program_here().process
    _forget()
    monkeypatch.setattr(processes, "_read", read)
    assert program_here().process == f"boot-2-{os.getpid()}-18" != before


def test_process_is_told_apart_where_the_system_has_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget()
    monkeypatch.setattr(processes, "_read", lambda path: "")
    first = program_here()
    assert program_here() == first
    program._process.cache_clear()
    assert program_here().process != first.process, "another process of the same id"
