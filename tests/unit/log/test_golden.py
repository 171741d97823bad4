"""Golden logs: whole runs that earlier versions wrote, read to the same view by this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import checker, make_golden
from tests.support.make_golden import CONTENT, CURRENT, LOGS, ROOT, SETS
from workflow.log import registry, segments, values
from workflow.log.run_log import RunLog
from workflow.model import codec
from workflow.model.records import Created
from workflow.store.memory import MemoryStore

STORED = sorted(path for name in SETS for path in (ROOT / name / "logs").iterdir())
NOT_RUNS = ("tombstone", "deleted")


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def store_of(log: Path) -> MemoryStore:
    store = MemoryStore()
    for key, data in files(log).items():
        store.create(key, data, "put")
    return store


@pytest.mark.parametrize("log", STORED, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_a_golden_log_reads_as_its_version_read_it(log: Path) -> None:
    expected = (log.parents[1] / "views" / f"{log.name}.json").read_text()
    assert json.loads(make_golden.view_text(store_of(log))) == json.loads(expected)


@pytest.mark.parametrize("log", [path for path in STORED if path.name not in NOT_RUNS], ids=lambda path: path.name)
def test_a_golden_log_keeps_all_promises(log: Path) -> None:
    checker.check(files(log), "w")


@pytest.mark.parametrize("folder", [path for path in STORED if path.name == "values-in-parts"], ids=str)
def test_golden_values_in_parts_are_loaded(folder: Path) -> None:
    store = store_of(folder)
    entry = registry.current_entry(store, "w")
    assert isinstance(entry, Created)
    log = RunLog(store, entry)
    loaded = [
        values.loads(log.blobs.load_value(step.outcome.value), lambda kind, name: pytest.fail(kind))
        for step in log.replay().steps.values()
        if step.outcome is not None
    ]
    assert loaded == [[CONTENT], CONTENT]
    assert sum(data == CONTENT for data in files(folder).values()) == 1


def test_this_version_writes_the_current_golden_logs(tmp_path: Path) -> None:
    """If the format changes on purpose, write a new set of golden logs and keep the old one: see `make_golden`."""
    make_golden.main(tmp_path)
    written, golden = files(tmp_path), files(ROOT / CURRENT)
    assert written.keys() == golden.keys()
    assert [name for name, data in written.items() if data != golden[name]] == []


def test_the_golden_logs_contain_every_kind_of_record() -> None:
    kinds = set()
    for name in LOGS:
        for key, data in files(ROOT / CURRENT / "logs" / name).items():
            if "/blobs/" not in key:
                kinds |= {type(record).__name__ for record in segments.decode(key, data)}
    assert kinds == set(codec.KINDS)
