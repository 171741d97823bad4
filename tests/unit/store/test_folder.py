"""What the folder does beyond the contract: it survives kills and power cuts, and says what the disk said."""

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
    """The system calls that make a write durable, in order, with the paths they were given."""

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


def test_an_object_appears_only_when_it_and_its_folders_are_durable(
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


def test_folders_that_another_process_made_are_made_durable_too(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "run" / "log").mkdir(parents=True)
    recorder = Recorder(monkeypatch, root)
    store.create("run/log/1", b"data", "put-1")
    assert [call for call in recorder.calls if call.startswith("fsync")] == [
        "fsync store", "fsync store/run", "fsync temporary", "fsync store/run/log",
    ]  # fmt: skip


def test_who_loses_sees_only_what_is_durable(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("run/log/1", b"data", "put-1")
    recorder = Recorder(monkeypatch, root)
    assert store.create("run/log/1", b"other", "put-2") is False
    assert recorder.calls[-2:] == ["fsync store/run/log", "unlink temporary"]


def test_overwriting_is_durable_and_whole(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.overwrite("managers/one", b"1")
    recorder = Recorder(monkeypatch, root)
    store.overwrite("managers/one", b"2")
    assert recorder.calls == ["fsync temporary", "rename temporary", "fsync store/managers", "unlink temporary"]


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a system call fail."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


@pytest.mark.parametrize("number", [*UNAVAILABLE, *REFUSED], ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("name", ["fsync", "link"])
def test_what_the_disk_said_is_told(
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


def test_an_error_that_nobody_knows_is_tried_again(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    failing("fsync", errno.EREMOTEIO, monkeypatch)
    with pytest.raises(StoreUnavailableError, match=r"EREMOTEIO.*not known to pass by itself or to last"):
        store.create("key", b"", "put-1")


def test_a_folder_that_could_not_be_synced_is_synced_by_the_next_try(
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


@pytest.mark.parametrize("left", ["#0123456789abcdef", "#torn"], ids=["a whole temporary file", "a torn one"])
def test_what_a_crash_left_is_never_listed(store: FolderStore, root: Path, left: str) -> None:
    store.create("log/1", b"data", "put-1")
    (root / "log" / left).write_bytes(b"half of")
    assert [info.key for info in store.list("")] == ["log/1"]
    assert [info.key for info in store.list("log/")] == ["log/1"]


DYING = """
import os, sys
from workflow.store.folder import FolderStore
class Dying:
    def __len__(self):
        return 1 << 20
    def __iter__(self):
        yield bytes(1 << 20)
        os.kill(os.getpid(), 9)
FolderStore(sys.argv[1]).create("run/blobs/1", Dying(), "put-1")
"""


def test_what_a_killed_writer_left_goes_a_day_later_with_its_folder(store: FolderStore, root: Path) -> None:
    assert subprocess.run([sys.executable, "-c", DYING, str(root)], check=False).returncode == -signal.SIGKILL
    (left,) = (root / "run" / "blobs").iterdir()
    store.create("run/log/1", b"data", "put-2")
    for age, stays in ((86_000, True), (87_000, False)):
        written = (root / "run" / "log" / "1").stat().st_mtime - age
        os.utime(left, (written, written))
        assert [info.key for info in store.list("")] == ["run/log/1"]
        assert left.exists() is left.parent.exists() is stays
    store.delete("run/log/1")
    assert [path.name for path in root.rglob("*")] == ["#clock"]


def test_a_writer_whose_temporary_file_was_taken_for_left_behind_writes_it_again(
    store: FolderStore, root: Path
) -> None:
    class Slow:
        """A value on which its writer sleeps for two days, once."""

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
def test_a_damaged_file_is_said_to_be_one(store: FolderStore, root: Path, damage: bytes | None) -> None:
    store.create("log/1", b"data", "put-1")
    file = root / "log" / "1"
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(CorruptLogError, match=r"store/log/1: the end of the file is damaged.*key log/1"):
        store.get("log/1")
    assert store.create("log/1", b"new", "put-2") is False


def test_a_folder_where_an_object_should_be_is_refused(store: FolderStore) -> None:
    store.create("a/b/c", b"", "put-1")
    with pytest.raises(StoreRefusedError, match="EISDIR"):
        store.create("a/b", b"", "put-2")
    with pytest.raises(StoreRefusedError, match=r"ENOTDIR.*a file stands where a folder must be"):
        store.create("a/b/c/d", b"", "put-3")


def test_empty_folders_go_with_their_last_object(store: FolderStore, root: Path) -> None:
    store.create("a/b/c/1", b"", "put-1")
    store.create("a/2", b"", "put-2")
    store.delete("a/b/c/1")
    assert sorted(path.name for path in root.rglob("*")) == ["2", "a"]
    store.delete("a/2")
    assert list(root.iterdir()) == []
    assert store.create("a/b/c/1", b"", "put-3") is True


def test_a_list_reads_no_folder_beside_its_prefix(
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


def test_ages_are_told_by_the_file_system(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("managers/one", b"", "put-1")
    file = root / "managers" / "one"
    written = file.stat().st_mtime - 50
    os.utime(file, (written, written))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    info = store.head("managers/one")
    assert info is not None
    for age in (info.age, next(iter(store.list("managers/"))).age):
        assert 50 <= age < 600


def test_who_may_only_read_still_reads(store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_after_a_kill_every_object_is_whole_and_none_that_was_told_is_missing(store: FolderStore, root: Path) -> None:
    for round_ in range(3):
        told = -1
        command = [sys.executable, "-c", WRITER, str(root / str(round_))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                told = int(line)
                if told == 40:
                    break
            writer.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        kept = FolderStore(str(root / str(round_)))
        keys = [info.key for info in kept.list("")]
        assert keys == [f"log/{number:020d}" for number in range(len(keys))]
        assert told < len(keys) <= told + 2
        for number, key in enumerate(keys):
            assert kept.get(key) == str(number).encode() * 1000


def _race(root: str, writer: int) -> list[int]:
    store = FolderStore(root)
    return [number for number in range(100) if store.create(f"log/{number}", str(writer).encode(), f"put-{writer}")]


def test_of_several_processes_one_wins_each_key(root: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        won = list(pool.map(_race, [str(root)] * 4, range(4)))
    assert sorted(number for numbers in won for number in numbers) == list(range(100))
    store = FolderStore(str(root))
    for writer, numbers in enumerate(won):
        assert all(store.get(f"log/{number}") == str(writer).encode() for number in numbers)
