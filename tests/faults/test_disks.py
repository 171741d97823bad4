"""Full and failing disks: an object is stored completely or not at all, and a failed call can be repeated."""

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
from tests.support.checker import check
from tests.support.disk import Disk
from tests.support.fake_runner import FakeRunner
from tests.support.history import Expected
from tests.support.managers import FAST, with_timeout
from tests.support.stored import BrokenRuleError, in_folder
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
    buffer = bytearray()

    def allocate(size: int) -> memoryview:
        buffer[:] = bytes(size)
        return memoryview(buffer)

    return store.fetch("a/kept", allocate), bytes(buffer)


def list_after_a_killed_writer(store: FolderStore) -> object:
    temporary = Path(store.url, "a", "#temporary")
    temporary.touch()
    os.utime(temporary, (0, 0))
    return [info.key for info in store.list("a/")]


CALLS: dict[str, Callable[[FolderStore], object]] = {
    "create": create,
    "create of an existing key": lambda store: store.create("a/kept", NEW, "put-1"),
    "overwrite": lambda store: store.overwrite("a/beat", NEW),
    "get": lambda store: store.get("a/kept"),
    "fetch": fetched,
    "head": lambda store: getattr(store.head("a/kept"), "size", None),
    "list": lambda store: [info.key for info in store.list("a/")],
    "list after a killed writer": list_after_a_killed_writer,
    "delete": lambda store: store.delete("a/gone"),
    "delete of the last object in its folders": lambda store: store.delete("b/c/alone"),
}
IGNORED_FAILURES = {
    "list after a killed writer": {"unlink", "rmdir"},
    "delete": {"rmdir"},
    "delete of the last object in its folders": {"rmdir"},
}
"""Call of the store -> system calls whose failure it ignores. It reports the failure of every other system call.

The objects are already as requested. Only an empty folder may stay, or the temporary file of a killed writer. No list
shows them. The next writer uses the folder, and the next list removes the file.
"""
BEFORE = {"a/kept": OLD, "a/beat": OLD, "a/gone": OLD, "b/c/alone": OLD}
AFTER: dict[str, dict[str, bytes]] = {
    "create": {**BEFORE, "a/b/log/1": NEW},
    "overwrite": {**BEFORE, "a/beat": NEW},
    "delete": {key: OLD for key in BEFORE if key != "a/gone"},
    "delete of the last object in its folders": {key: OLD for key in BEFORE if key != "b/c/alone"},
}


def prepared(folder: Path) -> FolderStore:
    """Return a new store object on a folder with the objects of `BEFORE`."""
    store = FolderStore(str(folder))
    for key, data in BEFORE.items():
        assert store.create(key, data, "put-0")
    return FolderStore(str(folder))


def refusal(act: Callable[[], bool]) -> str:
    """Return the text of the store's error, or an empty string if the call succeeded."""
    try:
        assert act()
    except StoreUnavailableError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", CALLS)
def test_each_system_call_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    disk = Disk().install(monkeypatch)
    store = prepared(tmp_path / "0")
    disk.calls.clear()
    expected = CALLS[name](store)
    number_of_calls = len(disk.calls)
    assert number_of_calls
    after = AFTER.get(name, BEFORE)
    ignored: set[str] = set()
    for which in range(1, number_of_calls + 1):
        store = prepared(tmp_path / str(which))
        descriptors = len(os.listdir("/proc/self/fd"))
        disk.calls.clear()
        disk.failed.clear()
        disk.choose = lambda count, _, which=which: number if count == which else None  # type: ignore[misc]
        error = refusal(lambda store=store: CALLS[name](store) == expected)  # type: ignore[misc]
        assert len(disk.failed) == 1
        if error:
            assert errno.errorcode[number] in error
            assert re.search("'[ab]/", error)
        else:
            ignored |= set(disk.failed)
        disk.choose = lambda count, _: None
        assert in_folder(tmp_path / str(which)) in (BEFORE, after), "neither unchanged nor complete"
        assert CALLS[name](store) == expected
        assert in_folder(tmp_path / str(which)) == after
        assert len(os.listdir("/proc/self/fd")) == descriptors, "a descriptor stays open"
    assert ignored == IGNORED_FAILURES.get(name, set())


@contextlib.contextmanager
def small_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide a file system of 1 MiB. If this user may not mount one, simulate that the disk is full."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    disk = Disk().install(monkeypatch)

    def choose(count: int, name: str) -> int | None:
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return errno.ENOSPC if name == "writelines" and used > SMALL_DISK * 0.9 else None

    disk.choose = choose
    yield folder


def test_full_disk_contains_only_complete_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as folder:
        store = FolderStore(str(folder))
        written: dict[str, bytes] = {}
        for number in range(100):
            key, data = f"log/{number:03}", bytes([number]) * 50_000
            error = refusal(lambda: store.create(key, data, f"put-{number}"))  # noqa: B023 - called at once
            if error:
                break
            written[key] = data
        assert re.search(r"log/.*ENOSPC\); the disk is full; free some space", error)
        assert in_folder(folder) == written
        assert [info.key for info in store.list("log/")] == sorted(written)
        refused = f"log/{len(written):03}"
        assert store.get(refused) is None
        store.delete("log/000")
        store.delete("log/001")
        assert store.create(refused, b"x" * 50_000, f"put-{len(written)}")


class RunOnDisk:
    """A manager and its run on a folder store.

    Args:
        store: the folder store.
        shape: name of the shape of the run.
        after_step: called with the id of each step that has computed its value.
    """

    def __init__(self, store: Store, shape: str, after_step: Callable[[str], None] = lambda step_id: None) -> None:
        self.store = store
        self.shape = SHAPES[shape]
        self.created = runs.created(self.shape.dag, owner=Owner(""))
        blobs = RunLog(store, self.created).blobs
        act = self.shape.script(lambda task: blobs)

        def script(task: StepTask) -> StepResult:
            result = act(task)
            after_step(task.step_id)
            return result

        self.manager = Manager(store, Owner("m", "i", "a"), FakeRunner(script), FAST)
        blobs.put(b"a function")

    async def run_to_end(self) -> None:
        """Start the run and wait for its result."""
        await self.manager.begin()
        await self.manager.start(self.created)
        await with_timeout(self.manager.wait(RunAddress(self.store.url, "w", 1, self.created.run_uuid)), 60)
        await self.manager.leave()

    def check(self, folder: Path) -> None:
        """Check the run against the oracle."""
        check(in_folder(folder), "w", expected=Expected(self.shape.oracle()))


async def test_run_waits_for_space_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as folder:
        ballast = folder / "#ballast"

        def fill(step_id: str) -> None:
            if step_id == "b":
                with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                    for _ in range(SMALL_DISK // 512):
                        file.write(b"0" * 512)

        run = RunOnDisk(FolderStore(str(folder)), "chain", fill)
        ending = asyncio.create_task(run.run_to_end())
        await eventually(lambda: "not stored yet" in caplog.text)
        assert "ENOSPC" in caplog.text
        assert not ending.done()
        with pytest.raises(BrokenRuleError, match="ended not at all"):
            run.check(folder)
        ballast.unlink()
        await ending
        run.check(folder)


@pytest.mark.parametrize("seed", range(6))
async def test_run_survives_random_disk_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk = Disk().install(monkeypatch)
    chance = random.Random(seed)
    run = RunOnDisk(RetryingStore(FolderStore(str(tmp_path)), sleep=lambda seconds: None), "mixed")
    disk.choose = lambda count, name: chance.choice([errno.EIO, errno.ENOSPC]) if chance.random() < 0.05 else None
    await run.run_to_end()
    assert disk.failed
    run.check(tmp_path)
