"""Disks that are full or failing: an object is there whole or not at all, and what was refused can be tried again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.shapes import SHAPES
from tests.support import runs
from tests.support.checker import Expected, check
from tests.support.disk import Disk
from tests.support.fake_runner import FakeRunner
from tests.support.managers import FAST, soon
from tests.support.stored import Broken, in_folder
from tests.support.waiting import eventually
from workflow.engine.messages import RunAddress, StepResult, StepTask
from workflow.engine.owner.manager import Manager
from workflow.errors import StoreUnavailableError
from workflow.log.run_log import RunLog
from workflow.model.run_view import Owner
from workflow.store import Store
from workflow.store.folder import FolderStore
from workflow.store.retrying import RetryingStore

OLD, NEW = b"old" * 1_000, b"new" * 1_000
SMALL_DISK = 1 << 20


def create(store: FolderStore) -> object:
    return store.create("a/b/log/1", NEW, "put-1")


def fetched(store: FolderStore) -> object:
    room = bytearray()

    def allocate(size: int) -> memoryview:
        room[:] = bytes(size)
        return memoryview(room)

    return store.fetch("a/kept", allocate), bytes(room)


def list_behind_a_killed_writer(store: FolderStore) -> object:
    left = Path(store.url, "a", "#left")
    left.touch()
    os.utime(left, (0, 0))
    return [info.key for info in store.list("a/")]


CALLS: dict[str, Callable[[FolderStore], object]] = {
    "create": create,
    "create of what is there": lambda store: store.create("a/kept", NEW, "put-1"),
    "overwrite": lambda store: store.overwrite("a/beat", NEW),
    "get": lambda store: store.get("a/kept"),
    "fetch": fetched,
    "head": lambda store: getattr(store.head("a/kept"), "size", None),
    "list": lambda store: [info.key for info in store.list("a/")],
    "list where a killed writer left a file": list_behind_a_killed_writer,
    "delete": lambda store: store.delete("a/gone"),
    "delete of the last in its folders": lambda store: store.delete("b/c/alone"),
}
SWALLOWED = {
    "list where a killed writer left a file": {"unlink", "rmdir"},
    "delete": {"rmdir"},
    "delete of the last in its folders": {"rmdir"},
}
"""Calls of the system whose failure nobody is told of; that of any other call is told.

By then the objects are what was asked for. What stays is an empty folder, which no list shows and the next writer uses,
or a file that a killed writer left, which the next list removes: whoever was told of it could do no more.
"""
BEFORE = {"a/kept": OLD, "a/beat": OLD, "a/gone": OLD, "b/c/alone": OLD}
BEHIND: dict[str, dict[str, bytes]] = {
    "create": {**BEFORE, "a/b/log/1": NEW},
    "overwrite": {**BEFORE, "a/beat": NEW},
    "delete": {key: OLD for key in BEFORE if key != "a/gone"},
    "delete of the last in its folders": {key: OLD for key in BEFORE if key != "b/c/alone"},
}


def prepared(folder: Path) -> FolderStore:
    """A store that knows nothing of its folders yet."""
    store = FolderStore(str(folder))
    for key, data in BEFORE.items():
        assert store.create(key, data, "put-0")
    return FolderStore(str(folder))


def refusal(act: Callable[[], bool]) -> str:
    """What the store said when it could not do it; empty where it did."""
    try:
        assert act()
    except StoreUnavailableError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", CALLS)
def test_each_call_of_the_system_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    disk = Disk().put_under_folder_stores(monkeypatch)
    store = prepared(tmp_path / "0")
    disk.calls.clear()
    expected = CALLS[name](store)
    passed = len(disk.calls)
    assert passed
    behind = BEHIND.get(name, BEFORE)
    swallowed: set[str] = set()
    for which in range(1, passed + 1):
        store = prepared(tmp_path / str(which))
        descriptors = len(os.listdir("/proc/self/fd"))
        disk.calls.clear()
        disk.failed.clear()
        disk.choose = lambda count, _, which=which: number if count == which else None  # type: ignore[misc]
        told = refusal(lambda store=store: CALLS[name](store) == expected)  # type: ignore[misc]
        assert len(disk.failed) == 1
        swallowed |= set() if told else set(disk.failed)
        assert not told or (errno.errorcode[number] in told and re.search("'[ab]/", told))
        disk.choose = lambda count, _: None
        assert in_folder(tmp_path / str(which)) in (BEFORE, behind), "neither as before nor whole"
        assert CALLS[name](store) == expected
        assert in_folder(tmp_path / str(which)) == behind
        assert len(os.listdir("/proc/self/fd")) == descriptors, "a descriptor stays open"
    assert swallowed == SWALLOWED.get(name, set())


@contextlib.contextmanager
def small_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MiB; where this user may mount none, the store is told that its disk has no more."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    disk = Disk().put_under_folder_stores(monkeypatch)

    def choose(count: int, name: str) -> int | None:
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return errno.ENOSPC if name == "writelines" and used > SMALL_DISK * 0.9 else None

    disk.choose = choose
    yield folder


def test_a_disk_that_is_full_holds_whole_objects_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as folder:
        store = FolderStore(str(folder))
        written: dict[str, bytes] = {}
        for number in range(100):
            key, data = f"log/{number:03}", bytes([number]) * 50_000
            told = refusal(lambda: store.create(key, data, f"put-{number}"))  # noqa: B023 - called at once
            if told:
                break
            written[key] = data
        assert re.search(r"log/.*ENOSPC\); the disk is full; free some space", told)
        assert in_folder(folder) == written
        assert [info.key for info in store.list("log/")] == sorted(written)
        refused = f"log/{len(written):03}"
        assert store.get(refused) is None
        store.delete("log/000")
        store.delete("log/001")
        assert store.create(refused, b"x" * 50_000, f"put-{len(written)}")


class OnDisk:
    """A manager on a folder, and its run.

    Args:
        behind: called with a step's id when the step has its value.
    """

    def __init__(self, store: Store, shape: str, behind: Callable[[str], None] = lambda step_id: None) -> None:
        self.store = store
        self.shape = SHAPES[shape]
        self.created = runs.created(self.shape.dag, owner=Owner(""))
        blobs = RunLog(store, self.created).blobs
        act = self.shape.script(lambda task: blobs)

        def script(task: StepTask) -> StepResult:
            result = act(task)
            behind(task.step_id)
            return result

        self.manager = Manager(store, Owner("m", "i", "a"), FakeRunner(script), FAST)
        blobs.put(b"a function")

    async def to_the_end(self) -> None:
        """Make the run, and wait."""
        await self.manager.begin()
        await self.manager.start(self.created)
        await soon(self.manager.wait(RunAddress(self.store.url, "w", 1, self.created.run_uuid)), 60)
        await self.manager.leave()

    def check(self, folder: Path) -> None:
        """The run is what the oracle says."""
        check(in_folder(folder), "w", expected=Expected(self.shape.oracle()))


async def test_a_run_waits_for_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as folder:
        ballast = folder / "#ballast"

        def fill(step_id: str) -> None:
            if step_id == "b":
                with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                    for _ in range(SMALL_DISK // 512):
                        file.write(b"0" * 512)

        run = OnDisk(FolderStore(str(folder)), "chain", fill)
        ending = asyncio.create_task(run.to_the_end())
        await eventually(lambda: "not stored yet" in caplog.text)
        assert "ENOSPC" in caplog.text
        assert not ending.done()
        with pytest.raises(Broken, match="ended not at all"):
            run.check(folder)
        ballast.unlink()
        await ending
        run.check(folder)


@pytest.mark.parametrize("seed", range(6))
async def test_a_run_on_a_disk_that_fails_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = Disk().put_under_folder_stores(monkeypatch)
    chance = random.Random(seed)
    run = OnDisk(RetryingStore(FolderStore(str(tmp_path)), sleep=lambda seconds: None), "mixed")
    disk.choose = lambda count, name: chance.choice([errno.EIO, errno.ENOSPC]) if chance.random() < 0.05 else None
    await run.to_the_end()
    assert disk.failed
    run.check(tmp_path)
