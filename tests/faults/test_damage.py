"""Torn and altered files: every reader names the key and stops; nothing damaged ever comes to the unpickler."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.faults.lives import KILLED, At, Story
from tests.support.fake_runner import FakeRunner
from tests.support.stored import TRAILER
from workflow.engine import worker
from workflow.engine.manager import ClaimRequest, Manager
from workflow.engine.messages import Raised, Returned, RunAddress, StepTask
from workflow.errors import Corrupt
from workflow.log import naming, values
from workflow.log.blobs import Blobs
from workflow.log.paths import RunPaths
from workflow.log.points import AFTER_SNAPSHOT
from workflow.log.run_log import RunLog
from workflow.model.graph import Value
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.state import Outcome
from workflow.reading import read_run
from workflow.store.folder import FolderStore

FOLDER = "workflows/w/runs/1-run-1"


def altered(place: Callable[[int], int]) -> Callable[[bytes], bytes]:
    """One bit of the object's own bytes is another."""

    def alter(data: bytes) -> bytes:
        at = place(len(data) - TRAILER)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return alter


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "torn in the middle": lambda data: data[: len(data) // 2],
    "torn, with a whole end": lambda data: data[: len(data) // 2] + data[-TRAILER:],
    "torn by a byte, with a whole end": lambda data: data[: -TRAILER - 1] + data[-TRAILER:],
    "no end": lambda data: data[:-TRAILER],
    "more behind it": lambda data: data + b"more",
    "more in it": lambda data: data[:-TRAILER] + b"more" + data[-TRAILER:],
    "zeros": lambda data: b"\0" * len(data),
    "zeros, with a whole end": lambda data: b"\0" * (len(data) - TRAILER) + data[-TRAILER:],
    "first bit": altered(lambda size: 0),
    "a bit of the checksum": altered(lambda size: 25 % size),
    "a bit in the middle": altered(lambda size: size // 2),
    "last bit": altered(lambda size: size - 1),
}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose owner was killed behind its first snapshot; its DAG of 500 is a blob."""
    story = Story(tmp_path_factory.mktemp("story"), "map of 500")
    assert story.live(At(AFTER_SNAPSHOT)) == KILLED
    return Path(story.store)


@pytest.fixture
def damaged(half: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(half, tmp_path / "store"))


@pytest.fixture
def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All that comes to the unpickler."""
    seen: list[bytes] = []
    loads = pickle.loads

    def watched(data: bytes | memoryview) -> object:
        seen.append(bytes(data))
        return loads(data)

    def watched_file(file: IO[bytes], **options: object) -> object:
        return watched(file.read())

    monkeypatch.setattr(pickle, "loads", watched)
    monkeypatch.setattr(pickle, "load", watched_file)
    return seen


def claimed(store: FolderStore) -> None:
    """Another manager takes the run over."""

    async def claim() -> None:
        manager = Manager(store, Owner("m", "i", "a"), FakeRunner())
        try:
            await manager.claim(ClaimRequest("w", 1, take_over=True))
        finally:
            await manager.leave()

    asyncio.run(claim())


def replayed(store: FolderStore) -> None:
    created = naming.read_name(store, "w", 1)
    assert isinstance(created, Created)
    RunLog(store, created).replay()


READERS: dict[str, Callable[[FolderStore], object]] = {
    "view": lambda store: read_run(store, "w"),
    "replay": replayed,
    "claim": claimed,
}


def newest(store: Path, kind: str) -> Path:
    """The file of a kind that every reader needs."""
    if kind == "name":
        return store / "workflows/w/names/0000000001"
    if kind == "DAG":
        return max((store / FOLDER / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    return max(path for path in (store / FOLDER / kind).iterdir() if not path.name.startswith("#"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["name", "log", "snapshot", "DAG"])
def test_a_reader_of_the_log_names_the_key(damaged: Path, kind: str, reader: str, unpickled: list[bytes]) -> None:
    path = newest(damaged, kind)
    key, whole = str(path.relative_to(damaged)), path.read_bytes()
    if kind in ("log", "DAG"):  # a snapshot tells what they do
        newest(damaged, "snapshot").unlink()
    before = {each: each.read_bytes() for each in (damaged / "workflows").rglob("*") if each.is_file()}
    for name, damage in DAMAGE.items():
        path.write_bytes(damage(whole))
        with pytest.raises(Corrupt) as found:
            READERS[reader](FolderStore(str(damaged)))
        assert key in str(found.value), name
        assert found.value.fields["key"] == key, name
    path.write_bytes(whole)
    assert {each: each.read_bytes() for each in (damaged / "workflows").rglob("*") if each.is_file()} == before
    assert not unpickled


def greet(name: str, parent: str) -> str:
    """A user's step."""
    return f"{name} {parent}"


class _Parent:
    """Stands in arguments for another step's outcome."""


def _marked(obj: object) -> tuple[object, ...] | None:
    return values.mark("parent", "0") if isinstance(obj, _Parent) else None


@pytest.mark.parametrize("place", ["function", "arguments", "parent"])
def test_a_worker_names_the_blob_and_unpickles_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, unpickled: list[bytes]
) -> None:
    store = FolderStore(str(tmp_path))
    monkeypatch.setattr(worker, "store_at", lambda url: store)
    monkeypatch.setattr(worker, "_functions", OrderedDict())
    blobs = Blobs(store, RunPaths("w", 1, "run-1"))
    pickles = {
        "function": values.dumps(greet, _marked),
        "arguments": values.dumps((("hello", _Parent()), {}), _marked),
        "parent": values.dumps("world", _marked),
    }
    names = {each: blobs.put(data) for each, data in pickles.items()}
    task = StepTask(
        run=RunAddress(str(tmp_path), "w", 1, "run-1"),
        step_id="s",
        qualname="greet",
        function=names["function"],
        args=Value(blob=names["arguments"], size=1),
        parents=(Outcome(Value(blob=names["parent"], size=1)),),
        number=1,
        render=True,
        written_by="",
    )
    key = f"{FOLDER}/blobs/{names[place]}"
    whole = (tmp_path / key).read_bytes()
    for name, damage in DAMAGE.items():
        (tmp_path / key).write_bytes(damage(whole))
        unpickled.clear()
        result = worker.execute(task)
        assert isinstance(result, Raised), name
        assert result.error.kind == "workflow.errors.Corrupt", name
        assert key in result.error.message, name
        *read, error = unpickled  # the last is the error itself, which is tried before it is handed on
        assert set(read) <= set(pickles.values()) - {pickles[place]}, name
        assert isinstance(pickle.loads(error), Corrupt), name
        worker._functions.clear()
    (tmp_path / key).write_bytes(whole)
    result = worker.execute(task)
    assert isinstance(result, Returned)
    assert result.text == '"hello world"'
