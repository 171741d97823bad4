"""Torn and altered files: every reader names the key and stops; nothing damaged ever comes to the unpickler."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.faults.lives import KILLED, At, Story
from tests.support.fake_runner import FakeRunner
from tests.support.stored import TRAILER
from workflow import requests
from workflow.engine.driver.results import failure_of, value_of
from workflow.engine.messages import Raised, Returned, RunAddress, RunResult, StepTask
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.engine.worker import execution, refs
from workflow.errors import CorruptLogError, StepFailed
from workflow.log import registry, values
from workflow.log.blobs import Blobs
from workflow.log.failpoints import AFTER_SNAPSHOT
from workflow.log.keys import RunPaths
from workflow.log.pickled import OUT_OF_BAND_LIMIT, Pickled
from workflow.log.run_log import RunLog
from workflow.model.graph import Value
from workflow.model.records import Created
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.state import Outcome
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.store.folder import FolderStore

RUN = RunPaths("w", 1, "run-1")
FOLDER = RUN.folder


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
    created = registry.read_entry(store, "w", 1)
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
        return store / "workflows/w/registry/0000000001"
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
        with pytest.raises(CorruptLogError) as found:
            READERS[reader](FolderStore(str(damaged)))
        assert key in str(found.value), name
        assert found.value.fields["key"] == key, name
    path.write_bytes(whole)
    assert {each: each.read_bytes() for each in (damaged / "workflows").rglob("*") if each.is_file()} == before
    assert not unpickled


def greet(name: str, parent: str) -> str:
    """A user's step."""
    return f"{name} {parent}"


@dataclass(frozen=True)
class _Outside:
    """Stands in a value for what lies outside it: another step's outcome, or a Ray object."""

    kind: str
    name: str


def _marked(obj: object) -> tuple[object, ...] | None:
    return values.mark(obj.kind, obj.name) if isinstance(obj, _Outside) else None


class _Ref(str):
    """What is made of a text where `ray.put` is asked, without Ray."""

    def hex(self) -> str:
        """See Ray's."""
        return "0"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """An empty one, which a worker and a driver in this process use; they know nothing of it yet."""
    store = FolderStore(str(tmp_path))
    monkeypatch.setattr(execution, "store_at", lambda url: store)
    monkeypatch.setattr(execution, "_functions", OrderedDict())
    monkeypatch.setattr(refs, "_blob_of", OrderedDict())
    monkeypatch.setattr("ray.put", _Ref)
    return store


@pytest.mark.parametrize("place", ["function", "arguments", "object", "parent"])
def test_a_worker_names_the_blob_and_unpickles_nothing_of_it(
    store: FolderStore, tmp_path: Path, place: str, unpickled: list[bytes]
) -> None:
    blobs = Blobs(store, RUN)
    pickles = {
        "function": values.dumps(greet, _marked),
        "object": values.dumps("hello", _marked),
        "parent": values.dumps("world", _marked),
    }
    names = {each: blobs.put(data) for each, data in pickles.items()}
    stand_ins = _Outside("object", names["object"]), _Outside("parent", "0")
    pickles["arguments"] = values.dumps((stand_ins, {}), _marked)
    names["arguments"] = blobs.put(pickles["arguments"])
    task = StepTask(
        run=RunAddress(str(tmp_path), "w", 1, "run-1"),
        step_id="s",
        qualname="greet",
        function=names["function"],
        args=Value(blob=names["arguments"], size=1),
        parents=(Outcome(Value(blob=names["parent"], size=1)),),
        attempt=1,
        render=True,
        written_by="",
    )
    key = RUN.blob(names[place])
    whole = (tmp_path / key).read_bytes()
    for name, damage in DAMAGE.items():
        (tmp_path / key).write_bytes(damage(whole))
        unpickled.clear()
        result = execution.execute(task)
        assert isinstance(result, Raised), name
        assert result.error.kind == "workflow.errors.CorruptLogError", name
        assert key in result.error.message, name
        *read, error = unpickled  # the last is the error itself, which is tried before it is handed on
        assert set(read) <= set(pickles.values()) - {pickles[place]}, name
        assert isinstance(pickle.loads(error), CorruptLogError), name
        execution._functions.clear()
    (tmp_path / key).write_bytes(whole)
    result = execution.execute(task)
    assert isinstance(result, Returned)
    assert result.text == '"hello world"'


@dataclass(frozen=True)
class Asked:
    """What a user, or the operator for him, asks of a run.

    Attributes:
        blob: name of the one that is damaged.
        read: what is called.
        gives: what comes of it where nothing is damaged.
        around: pickles that lead to the blob; each is read before it.
    """

    blob: str
    read: Callable[[], object]
    gives: object
    around: tuple[bytes | Pickled, ...] = ()


def ended_with(store: FolderStore, blob: str) -> RunResult:
    """A run that has a value."""
    run = RunAddress(store.url, "w", 1, "run-1")
    return RunResult(run, WorkflowStatus.SUCCESSFUL, Outcome(Value(blob=blob, size=1)), None, None, "", "")


def failed_with(store: FolderStore, blob: str) -> RunResult:
    """A run whose step raised."""
    run, error = RunAddress(store.url, "w", 1, "run-1"), ErrorInfo("ValueError", "boom", step_id="s")
    return RunResult(run, WorkflowStatus.FAILED, None, error, Value(blob=blob, size=1), "", "")


def a_value(store: FolderStore, content: str = "world") -> Asked:
    """A driver asks for the run's value."""
    blob = Blobs(store, RUN).put(values.dumps(content, _marked))
    return Asked(blob, lambda: value_of(ended_with(store, blob)), content)


def a_failure(store: FolderStore) -> Asked:
    """A driver asks what the run failed with."""
    blob = Blobs(store, RUN).put(values.dumps(ValueError("boom"), _marked))

    def read() -> object:
        raised = failure_of(failed_with(store, blob))
        return repr(raised), type(raised.__cause__)

    return Asked(blob, read, ("ValueError('boom')", StepFailed))


def a_failure_that_is_raised(store: FolderStore) -> Asked:
    """A driver asks for the value of a run that failed."""
    blob = Blobs(store, RUN).put(values.dumps(ValueError("boom"), _marked))

    def read() -> object:
        with pytest.raises(ValueError, match="boom") as found:
            value_of(failed_with(store, blob))
        return repr(found.value)

    return Asked(blob, read, "ValueError('boom')")


def an_object(store: FolderStore, depth: int = 1) -> Asked:
    """A driver asks for a value with a Ray object in it, or with one in that."""
    blob = Blobs(store, RUN).put(values.dumps("world", _marked))
    name, around = blob, []
    for _ in range(depth):
        around.append(values.dumps(_Outside("object", name), _marked))
        name = Blobs(store, RUN).put(around[-1])
    return Asked(blob, lambda: value_of(ended_with(store, name)), "world", tuple(reversed(around)))


def the_code(store: FolderStore) -> Asked:
    """The operator asks for the user's code."""
    sha = requests.stage_code(store, "w", 1, "run-1", b"the user's zip")
    return Asked(sha, lambda: requests.read_code(store, "w", 1, "run-1", sha), b"the user's zip")


ASKED: dict[str, Callable[[FolderStore], Asked]] = {
    "value": a_value,
    "large value": lambda store: a_value(store, "world" * OUT_OF_BAND_LIMIT),
    "failure": a_failure,
    "failure that is raised": a_failure_that_is_raised,
    "object": an_object,
    "object in an object": lambda store: an_object(store, depth=2),
    "code": the_code,
}


@pytest.mark.parametrize("what", ASKED)
def test_whoever_asks_is_told_the_key_and_given_nothing_of_it(
    store: FolderStore, tmp_path: Path, what: str, unpickled: list[bytes]
) -> None:
    asked = ASKED[what](store)
    key = RUN.blob(asked.blob)
    whole = (tmp_path / key).read_bytes()
    for name, damage in DAMAGE.items():
        (tmp_path / key).write_bytes(damage(whole))
        with pytest.raises(CorruptLogError) as found:
            asked.read()
        assert key in str(found.value), name
        assert found.value.fields["key"] == key, name
        assert unpickled == list(asked.around), name
        unpickled.clear()
    (tmp_path / key).write_bytes(whole)
    assert asked.read() == asked.gives
