"""Which folder is the default, which paths are refused, and what the error of a folder recommends."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from workflow.errors import InvalidInputError, StoreRefusedError, StoreUnavailableError, WorkflowError
from workflow.log import keys
from workflow.store import locations, open_store
from workflow.store.probe import probe

CHOOSE = r"call workflow\.init\(folder\) or set RAYWORKFLOW_STORAGE$"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/rayworkflow"),
        ({"XDG_STATE_HOME": "state", "HOME": "/home/me"}, "/home/me/.local/state/rayworkflow"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/me"}, "/home/me/.local/state/rayworkflow"),
        ({"HOME": ""}, "/from/passwd/.local/state/rayworkflow"),
        ({"HOME": "relative"}, "/from/passwd/.local/state/rayworkflow"),
        ({}, "/from/passwd/.local/state/rayworkflow"),
    ],
)
def test_default_folder(given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    entry = pwd.struct_passwd(("me", "x", 1, 1, "", "/from/passwd", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry)
    assert locations.default_folder() == expected


def no_entry(*_: object) -> Any:
    raise KeyError("uid not found")


def test_user_without_a_home_is_asked_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(InvalidInputError, match="HOME is not set, and user .* has no entry in the user.*" + CHOOSE):
        locations.default_folder()


@pytest.mark.parametrize(
    ("storage", "text"),
    [
        ("~no-such-user/flows", "cannot use the folder '~no-such-user/flows': .*; give an absolute path"),
        ("a\0b", "cannot use the folder 'a\\\\x00b': .*null.*; give an absolute path"),
        ("memory://x", "each process has its own memory.*; use a folder or s3://bucket/prefix"),
    ],
)
def test_location_that_cannot_work_is_refused(storage: str, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        locations.absolute(storage)


def test_relative_folder_in_a_removed_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidInputError, match=r"cannot use the folder 'flows': .*; give an absolute path"):
        locations.absolute("flows")


def use(folder: Path, *, is_default: bool = False) -> None:
    """Use a store for the first time, as `init` does."""
    with locations.naming_the_choice(str(folder), is_default):
        probe(open_store(str(folder)), keys.PROBED_RUN, keys.PROBED_FOLDERS)


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


@pytest.mark.parametrize("is_default", [True, False], ids=["default", "chosen"])
@pytest.mark.parametrize(
    ("call", "number", "kind"),
    [
        ("mkdir", errno.EACCES, StoreRefusedError),
        ("mkdir", errno.EROFS, StoreRefusedError),
        ("link", errno.EPERM, StoreRefusedError),
        ("fsync", errno.ENOSPC, StoreUnavailableError),
        ("fsync", errno.EDQUOT, StoreUnavailableError),
    ],
    ids=["no right", "read-only", "no hard links", "full", "quota"],
)
def test_error_of_a_folder_names_how_to_choose_another(
    call: str, number: int, kind: type[WorkflowError], is_default: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of these are raised without a wait."""
    slept: list[float] = []
    monkeypatch.setattr("threading.Event.wait", lambda self, timeout=None: slept.append(timeout or 0.0))
    with monkeypatch.context() as patch:
        failing(call, number, patch)
        with pytest.raises(kind, match=CHOOSE) as raised:
            use(tmp_path / "store", is_default=is_default)
    assert ("is the default folder" in str(raised.value)) is is_default
    assert slept == []


@pytest.mark.parametrize("folder", ["workflows", "managers", "owned", "notifications", "index"])
def test_first_use_tries_each_folder_that_runs_use(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).write_text("this file is in the way of the folder")
    with pytest.raises(StoreRefusedError, match=rf"{tmp_path}/{folder}/=probe/.*there is a file in the place of a"):
        use(tmp_path)


def test_first_use_leaves_nothing(tmp_path: Path) -> None:
    use(tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["#clock"]


def test_probe_is_no_run(tmp_path: Path) -> None:
    key = f"{keys.PROBED_RUN}{'0' * 32}/log/0"
    assert keys.run_key(key) is None
    assert keys.unescape(keys.PROBE) is None
