"""Modes of files and folders: they follow the umask, except in a folder that is for its group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest

from workflow.store.folder import FolderStore

SHARED, PRIVATE = 0o2770, 0o755


@pytest.fixture(autouse=True, params=[0o002, 0o022, 0o077], ids=["002", "022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def use(folder: Path) -> dict[str, int]:
    """Write to a store in a folder, and return the modes of all that it created, by relative path."""
    store = FolderStore(str(folder))
    store.create("run/log/1", b"data", "put-1")
    store.overwrite("managers/one", b"1")
    assert store.head("run/log/1") is not None
    return {str(path.relative_to(folder)): S_IMODE(path.stat().st_mode) for path in sorted(folder.rglob("*"))}


FILES = ("#clock", "managers/one", "run/log/1")
FOLDERS = ("managers", "run", "run/log")


@pytest.mark.parametrize("below", [".", "new/store"], ids=["the folder", "a new folder below"])
def test_folder_of_a_group_stays_usable_for_the_group(tmp_path: Path, below: str) -> None:
    tmp_path.chmod(SHARED)
    modes = use(tmp_path / below)
    assert set(modes) == {*FILES, *FOLDERS}
    for name in FILES:
        assert modes[name] & 0o060 == 0o060, name
    for name in FOLDERS:
        assert modes[name] & 0o2070 == 0o2070, name
    assert S_IMODE((tmp_path / below).stat().st_mode) & 0o2070 == 0o2070


def test_other_folders_follow_the_umask(tmp_path: Path, umask: int) -> None:
    tmp_path.chmod(PRIVATE)
    modes = use(tmp_path)
    assert {modes[name] for name in FILES} == {0o666 & ~umask}
    assert {modes[name] for name in FOLDERS} == {0o777 & ~umask}
