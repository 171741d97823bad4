"""Tests of the folder store beyond the contract: kills, power failures, and errors of the disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from workflow.errors import CorruptLogError, StoreRefusedError, StoreUnavailableError
from workflow.store.folder import FolderStore
from workflow.store.folder_errors import REFUSED, UNAVAILABLE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> FolderStore:
    return FolderStore(str(root))


class Recorder:
    """Records the system calls that make a write durable, in order and with their paths."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[str] = []
        self._root = str(root.parent)
        for name in ("fsync", "link", "mkdir", "rename", "unlink"):
            monkeypatch.setattr(os, name, self._recording(name, getattr(os, name)))

    def _recording(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: int | str, *more: Any, **options: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            where = os.path.relpath(path, self._root) if path.startswith(self._root) else path
            shown = "temporary" if "#" in where and not where.endswith("#clock") else where
            self.calls.append(f"{name} {shown}")
            return real(target, *more, **options)

        return call


def test_object_appears_after_it_and_its_folders_are_durable(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch, root)
    store.create("run/log/1", b"data", "put-1")
    assert recorder.calls == [
        "mkdir store", "fsync .",
        "mkdir store/run", "fsync store",
        "mkdir store/run/log", "fsync store/run",
        "fsync temporary", "link temporary", "fsync store/run/log", "unlink temporary",
    ]  # fmt: skip
    recorder.calls.clear()
    store.create("run/log/2", b"data", "put-2")
    assert recorder.calls == ["fsync temporary", "link temporary", "fsync store/run/log", "unlink temporary"]


def test_folders_of_other_processes_are_synced_too(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "run" / "log").mkdir(parents=True)
    recorder = Recorder(monkeypatch, root)
    store.create("run/log/1", b"data", "put-1")
    assert [call for call in recorder.calls if call.startswith("fsync")] == [
        "fsync store", "fsync store/run", "fsync temporary", "fsync store/run/log",
    ]  # fmt: skip


def test_losing_create_syncs_the_winners_object(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("run/log/1", b"data", "put-1")
    recorder = Recorder(monkeypatch, root)
    assert store.create("run/log/1", b"other", "put-2") is False
    assert recorder.calls[-2:] == ["fsync store/run/log", "unlink temporary"]


def test_overwrite_is_durable_and_atomic(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.overwrite("managers/one", b"1")
    recorder = Recorder(monkeypatch, root)
    store.overwrite("managers/one", b"2")
    assert recorder.calls == ["fsync temporary", "rename temporary", "fsync store/managers", "unlink temporary"]


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a system call fail."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


@pytest.mark.parametrize("number", [*UNAVAILABLE, *REFUSED], ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("name", ["fsync", "link"])
def test_disk_error_is_reported_with_advice(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    store.create("run/log/1", b"data", "put-1")
    failing(name, number, monkeypatch)
    kind = StoreUnavailableError if number in UNAVAILABLE else StoreRefusedError
    with pytest.raises(kind) as raised:
        store.create("run/log/2", b"data", "put-2")
    monkeypatch.undo()
    text = str(raised.value)
    assert text.startswith(
        f"cannot write 'run/log/2' at {root}/run/log/2: {os.strerror(number)} ({errno.errorcode[number]}"
    )
    assert text.endswith((UNAVAILABLE | REFUSED)[number])
    assert [info.key for info in store.list("")] == ["run/log/1"]
    assert os.listdir(root / "run" / "log") == ["1"]
    assert store.create("run/log/2", b"data", "put-2") is True


def test_unknown_disk_error_counts_as_unavailable(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    failing("fsync", errno.EREMOTEIO, monkeypatch)
    with pytest.raises(StoreUnavailableError, match=r"EREMOTEIO.*not in the table of known errors; check the system"):
        store.create("key", b"", "put-1")


def test_next_attempt_syncs_a_folder_after_a_failed_sync(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fail_for_folders(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    store.create("run/log/1", b"data", "put-1")
    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(StoreUnavailableError, match="EIO"):
        store.create("run/log/2", b"data", "put-2")
    monkeypatch.undo()
    recorder = Recorder(monkeypatch, root)
    assert store.create("run/log/2", b"data", "put-2") is True
    assert "fsync store/run/log" in recorder.calls


@pytest.mark.parametrize("temporary", ["#0123456789abcdef", "#torn"], ids=["name of a write", "other name"])
def test_temporary_files_are_never_listed(store: FolderStore, root: Path, temporary: str) -> None:
    store.create("log/1", b"data", "put-1")
    (root / "log" / temporary).write_bytes(b"half of")
    assert [info.key for info in store.list("")] == ["log/1"]
    assert [info.key for info in store.list("log/")] == ["log/1"]


KILLED_WRITER = """
import os, sys
from workflow.store.folder import FolderStore
class KillsItself:
    def __len__(self):
        return 1 << 20
    def __iter__(self):
        yield bytes(1 << 20)
        os.kill(os.getpid(), 9)
FolderStore(sys.argv[1]).create("run/blobs/1", KillsItself(), "put-1")
"""


def test_temporary_file_of_killed_writer_expires_after_a_day(store: FolderStore, root: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED_WRITER, str(root)], check=False).returncode == -signal.SIGKILL
    (temporary,) = (root / "run" / "blobs").iterdir()
    store.create("run/log/1", b"data", "put-2")
    for age, stays in ((86_000, True), (87_000, False)):
        written = (root / "run" / "log" / "1").stat().st_mtime - age
        os.utime(temporary, (written, written))
        assert [info.key for info in store.list("")] == ["run/log/1"]
        assert temporary.exists() is temporary.parent.exists() is stays
    store.delete("run/log/1")
    assert [path.name for path in root.rglob("*")] == ["#clock"]


def test_paused_writer_repeats_a_write_that_expired(store: FolderStore, root: Path) -> None:
    class Slow:
        """Content whose writer is paused once, for longer than the lifetime of its temporary file."""

        sleeps = 1

        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[bytes]:
            yield b"da"
            if self.sleeps:
                self.sleeps = 0
                (temporary,) = (root / "log").iterdir()
                os.utime(temporary, (1.0, 1.0))
                assert list(store.list("")) == []
                assert not (root / "log").exists()
            yield b"ta"

    assert store.create("log/1", Slow(), "put-1") is True
    assert store.get("log/1") == b"data"


@pytest.mark.parametrize("damage", [b"", b"short", b"long enough but with no trailer at its end", None])
def test_damaged_file_is_reported(store: FolderStore, root: Path, damage: bytes | None) -> None:
    store.create("log/1", b"data", "put-1")
    file = root / "log" / "1"
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(CorruptLogError, match=r"cannot read 'log/1' at .*store/log/1: the end of the file is damaged"):
        store.get("log/1")
    assert store.create("log/1", b"new", "put-2") is False


def test_key_that_is_also_a_folder_is_refused(store: FolderStore) -> None:
    store.create("a/b/c", b"", "put-1")
    with pytest.raises(StoreRefusedError, match="EISDIR"):
        store.create("a/b", b"", "put-2")
    with pytest.raises(StoreRefusedError, match=r"ENOTDIR.*there is a file in the place of a folder"):
        store.create("a/b/c/d", b"", "put-3")


def test_delete_of_last_object_removes_its_folders(store: FolderStore, root: Path) -> None:
    store.create("a/b/c/1", b"", "put-1")
    store.create("a/2", b"", "put-2")
    store.delete("a/b/c/1")
    assert sorted(path.name for path in root.rglob("*")) == ["2", "a"]
    store.delete("a/2")
    assert list(root.iterdir()) == []
    assert store.create("a/b/c/1", b"", "put-3") is True


def test_list_reads_only_folders_below_its_prefix(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a/x/1", "a/y/1", "a/y/deep/1", "b/1"):
        store.create(key, b"", "put-1")
    read: list[str] = []
    real = os.scandir

    def recording(path: str) -> Any:
        read.append(os.path.relpath(path, root))
        return real(path)

    monkeypatch.setattr(os, "scandir", recording)
    assert [info.key for info in store.list("a/y/")] == ["a/y/1", "a/y/deep/1"]
    assert read == ["a/y", "a/y/deep"]
    read.clear()
    assert [info.key for info in store.list("a/", "a/x/1")] == ["a/y/1", "a/y/deep/1"]
    assert "b" not in read


def test_ages_use_the_clock_of_the_file_system(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("managers/one", b"", "put-1")
    file = root / "managers" / "one"
    written = file.stat().st_mtime - 50
    os.utime(file, (written, written))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    info = store.head("managers/one")
    assert info is not None
    for age in (info.age, next(iter(store.list("managers/"))).age):
        assert 50 <= age < 600


def test_read_only_user_can_read(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("log/1", b"data", "put-1")
    real = os.open

    def read_only(path: str, flags: int, *more: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", read_only)
    info = store.head("log/1")
    assert info is not None
    assert info.age < 600
    assert [found.key for found in store.list("")] == ["log/1"]
    with pytest.raises(StoreRefusedError, match=r"EROFS.*mounted read-only"):
        store.create("log/2", b"", "put-2")


WRITER = """
import sys
from workflow.store.folder import FolderStore
store = FolderStore(sys.argv[1])
for number in range(1_000_000):
    store.create(f"log/{number:020d}", str(number).encode() * 1000, f"put-{number}")
    print(number, flush=True)
"""


def test_kill_leaves_all_acknowledged_objects_complete(store: FolderStore, root: Path) -> None:
    for round_ in range(3):
        acknowledged = -1
        command = [sys.executable, "-c", WRITER, str(root / str(round_))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged = int(line)
                if acknowledged == 40:
                    break
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        reopened = FolderStore(str(root / str(round_)))
        keys = [info.key for info in reopened.list("")]
        assert keys == [f"log/{number:020d}" for number in range(len(keys))]
        assert acknowledged < len(keys) <= acknowledged + 2
        for number, key in enumerate(keys):
            assert reopened.get(key) == str(number).encode() * 1000


def _race(root: str, writer: int) -> list[int]:
    store = FolderStore(root)
    return [number for number in range(100) if store.create(f"log/{number}", str(writer).encode(), f"put-{writer}")]


def test_one_of_several_processes_wins_each_key(root: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        wins = list(pool.map(_race, [str(root)] * 4, range(4)))
    assert sorted(number for numbers in wins for number in numbers) == list(range(100))
    store = FolderStore(str(root))
    for writer, numbers in enumerate(wins):
        assert all(store.get(f"log/{number}") == str(writer).encode() for number in numbers)
