"""Torn and altered files: every reader reports the key of a damaged object, and never unpickles damaged data."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.faults.manager_process import KILLED, FaultyRun, SignalAt
from tests.support.fake_runner import FakeRunner
from tests.support.stored import TRAILER
from workflow import requests
from workflow.engine.driver.results import failure_of, value_of
from workflow.engine.messages import ClaimRequest, Raised, Returned, RunAddress, RunResult, StepTask
from workflow.engine.owner.manager import Manager
from workflow.engine.worker import execution, refs, run_values
from workflow.engine.worker.caches import SharedCache
from workflow.errors import CorruptLogError, StepFailedError
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
    """Return a function that flips one bit of the content of an object."""

    def alter(data: bytes) -> bytes:
        at = place(len(data) - TRAILER)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return alter


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "torn in the middle": lambda data: data[: len(data) // 2],
    "torn, with a valid trailer": lambda data: data[: len(data) // 2] + data[-TRAILER:],
    "one byte shorter, with a valid trailer": lambda data: data[: -TRAILER - 1] + data[-TRAILER:],
    "no trailer": lambda data: data[:-TRAILER],
    "more bytes after the trailer": lambda data: data + b"more",
    "more bytes before the trailer": lambda data: data[:-TRAILER] + b"more" + data[-TRAILER:],
    "zeros": lambda data: b"\0" * len(data),
    "zeros, with a valid trailer": lambda data: b"\0" * (len(data) - TRAILER) + data[-TRAILER:],
    "first bit": altered(lambda size: 0),
    "a bit of the checksum": altered(lambda size: 25 % size),
    "a bit in the middle": altered(lambda size: size // 2),
    "last bit": altered(lambda size: size - 1),
}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of a run whose owner was killed after its first snapshot. Its DAG of 500 steps is a blob."""
    run = FaultyRun(tmp_path_factory.mktemp("run"), "map of 500")
    assert run.run_process(SignalAt(AFTER_SNAPSHOT)) == KILLED
    return Path(run.store)


@pytest.fixture
def damaged(half: Path, tmp_path: Path) -> Path:
    """Return a copy of the store, which the test may damage."""
    return Path(shutil.copytree(half, tmp_path / "store"))


@pytest.fixture
def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record all bytes that are unpickled."""
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


def claim_run(store: FolderStore) -> None:
    """Take the run over with another manager."""

    async def claim() -> None:
        manager = Manager(store, Owner("m", "i", "a"), FakeRunner())
        try:
            await manager.claim(ClaimRequest("w", 1, take_over=Owner("m1", "m1", "address-m1")))
        finally:
            await manager.leave()

    asyncio.run(claim())


def replay_log(store: FolderStore) -> None:
    created = registry.read_entry(store, "w", 1)
    assert isinstance(created, Created)
    RunLog(store, created).replay()


READERS: dict[str, Callable[[FolderStore], object]] = {
    "view": lambda store: read_run(store, "w"),
    "replay": replay_log,
    "claim": claim_run,
}


def newest(store: Path, kind: str) -> Path:
    """Return the file of a kind that every reader needs."""
    if kind == "registry entry":
        return store / "workflows/w/registry/0000000001"
    if kind == "DAG":
        return max((store / FOLDER / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    return max(path for path in (store / FOLDER / kind).iterdir() if not path.name.startswith("#"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["registry entry", "log", "snapshot", "DAG"])
def test_reader_of_a_log_reports_the_damaged_key(damaged: Path, kind: str, reader: str, unpickled: list[bytes]) -> None:
    path = newest(damaged, kind)
    key, whole = str(path.relative_to(damaged)), path.read_bytes()
    if kind in ("log", "DAG"):  # readers would use the snapshot instead
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
    """A step of a user."""
    return f"{name} {parent}"


@dataclass(frozen=True)
class _Reference:
    """A reference in a value to something outside it: the outcome of another step, or a Ray object."""

    kind: str
    name: str


def _marked(obj: object) -> tuple[object, ...] | None:
    return values.mark(obj.kind, obj.name) if isinstance(obj, _Reference) else None


class _Ref(str):
    """Replaces the ObjectRef that `ray.put` returns, so that the test needs no Ray."""

    def hex(self) -> str:
        return "0"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """Return an empty store, which the worker and the driver in this process use with empty caches."""
    store = FolderStore(str(tmp_path))
    monkeypatch.setattr(run_values, "shared_store", lambda url: store)
    monkeypatch.setattr(run_values, "_loaded_functions", SharedCache(256))
    monkeypatch.setattr(refs, "_blob_of", SharedCache(256))
    monkeypatch.setattr("ray.put", _Ref)
    return store


@pytest.mark.parametrize("place", ["function", "arguments", "object", "parent"])
def test_worker_reports_a_damaged_blob(store: FolderStore, tmp_path: Path, place: str, unpickled: list[bytes]) -> None:
    blobs = Blobs(store, RUN)
    pickles = {
        "function": values.dumps(greet, _marked),
        "object": values.dumps("hello", _marked),
        "parent": values.dumps("world", _marked),
    }
    names = {each: blobs.put(data) for each, data in pickles.items()}
    references = _Reference("object", names["object"]), _Reference("parent", "0")
    pickles["arguments"] = values.dumps((references, {}), _marked)
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
        *read, error = unpickled  # the last pickle is the error itself, which the worker verifies before it returns it
        assert set(read) <= set(pickles.values()) - {pickles[place]}, name
        assert isinstance(pickle.loads(error), CorruptLogError), name
        run_values._loaded_functions.clear()
    (tmp_path / key).write_bytes(whole)
    result = execution.execute(task)
    assert isinstance(result, Returned)
    assert result.text == '"hello world"'


@dataclass(frozen=True)
class Read:
    """A read that a driver or the operator makes of a run.

    Attributes:
        blob: name of the blob that the test damages.
        read: makes the read.
        expected: the result without damage.
        outer_pickles: pickles that are read before the blob and contain a reference to it.
    """

    blob: str
    read: Callable[[], object]
    expected: object
    outer_pickles: tuple[bytes | Pickled, ...] = ()


def successful_with(store: FolderStore, blob: str) -> RunResult:
    """Return the result of a successful run."""
    run = RunAddress(store.url, "w", 1, "run-1")
    return RunResult(run, WorkflowStatus.SUCCESSFUL, Outcome(Value(blob=blob, size=1)), None, None, "", "")


def failed_with(store: FolderStore, blob: str) -> RunResult:
    """Return the result of a run whose step raised."""
    run, error = RunAddress(store.url, "w", 1, "run-1"), ErrorInfo("ValueError", "boom", step_id="s")
    return RunResult(run, WorkflowStatus.FAILED, None, error, Value(blob=blob, size=1), "", "")


def read_value(store: FolderStore, content: str = "world") -> Read:
    """Read the value of a run, as a driver does."""
    blob = Blobs(store, RUN).put(values.dumps(content, _marked))
    return Read(blob, lambda: value_of(successful_with(store, blob)), content)


def read_failure(store: FolderStore) -> Read:
    """Read the error of a failed run, as a driver does."""
    blob = Blobs(store, RUN).put(values.dumps(ValueError("boom"), _marked))

    def read() -> object:
        raised = failure_of(failed_with(store, blob))
        return repr(raised), type(raised.__cause__)

    return Read(blob, read, ("ValueError('boom')", StepFailedError))


def read_value_of_failed_run(store: FolderStore) -> Read:
    """Read the value of a failed run, which raises its error."""
    blob = Blobs(store, RUN).put(values.dumps(ValueError("boom"), _marked))

    def read() -> object:
        with pytest.raises(ValueError, match="boom") as found:
            value_of(failed_with(store, blob))
        return repr(found.value)

    return Read(blob, read, "ValueError('boom')")


def read_object(store: FolderStore, depth: int = 1) -> Read:
    """Read a value that contains a Ray object, at the given depth of nesting."""
    blob = Blobs(store, RUN).put(values.dumps("world", _marked))
    name, outer_pickles = blob, []
    for _ in range(depth):
        outer_pickles.append(values.dumps(_Reference("object", name), _marked))
        name = Blobs(store, RUN).put(outer_pickles[-1])
    return Read(blob, lambda: value_of(successful_with(store, name)), "world", tuple(reversed(outer_pickles)))


def read_code(store: FolderStore) -> Read:
    """Read the code of the user, as the operator does."""
    sha = requests.stage_code(store, "w", 1, "run-1", b"the user's zip")
    return Read(sha, lambda: requests.read_code(store, "w", 1, "run-1", sha), b"the user's zip")


READS: dict[str, Callable[[FolderStore], Read]] = {
    "value": read_value,
    "large value": lambda store: read_value(store, "world" * OUT_OF_BAND_LIMIT),
    "failure": read_failure,
    "value of a failed run": read_value_of_failed_run,
    "object": read_object,
    "object in an object": lambda store: read_object(store, depth=2),
    "code": read_code,
}


@pytest.mark.parametrize("what", READS)
def test_driver_and_operator_report_a_damaged_blob(
    store: FolderStore, tmp_path: Path, what: str, unpickled: list[bytes]
) -> None:
    tested = READS[what](store)
    key = RUN.blob(tested.blob)
    whole = (tmp_path / key).read_bytes()
    for name, damage in DAMAGE.items():
        (tmp_path / key).write_bytes(damage(whole))
        with pytest.raises(CorruptLogError) as found:
            tested.read()
        assert key in str(found.value), name
        assert found.value.fields["key"] == key, name
        assert unpickled == list(tested.outer_pickles), name
        unpickled.clear()
    (tmp_path / key).write_bytes(whole)
    assert tested.read() == tested.expected
