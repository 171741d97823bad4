"""A disk that fails: stands between the folder store and the system, and fails the calls that a test chooses."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import pytest

from workflow.store import folder

CALLS = frozenset(
    {"open", "close", "fsync", "fstat", "link", "mkdir", "pread", "rename", "rmdir", "scandir", "unlink", "utime"}
)
FILES = frozenset({"writelines", "write", "flush", "read", "readinto"})

Choice = Callable[[int, str], "int | None"]
"""Told the number of the call, from 1, and its name; the errno that it fails with, or None."""


class Disk:
    """What the folder store sees instead of `os` and `open`.

    A call that fails has half an effect where the system's may have: half of the bytes are written, a descriptor is
    closed.

    Attributes:
        calls: names of the calls so far.
        failed: names of those that failed.
        choose: which calls fail; none at first.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failed: list[str] = []
        self.choose: Choice = lambda number, name: None

    def put_under_folder_stores(self, monkeypatch: pytest.MonkeyPatch) -> Disk:
        """From now on, until the end of the test."""
        monkeypatch.setattr(folder, "os", self)
        monkeypatch.setitem(vars(folder), "open", self._opened)
        return self

    def meet(self, name: str) -> OSError | None:
        """The error that this call meets."""
        self.calls.append(name)
        number = self.choose(len(self.calls), name)
        if number is None:
            return None
        self.failed.append(name)
        return OSError(number, os.strerror(number))

    def __getattr__(self, name: str) -> Any:
        there = getattr(os, name)
        if name not in CALLS or isinstance(there, ModuleType):
            return there

        def call(*args: Any, **options: Any) -> Any:
            error = self.meet(name)
            if error is not None:
                if name == "close":
                    there(*args)
                raise error
            return there(*args, **options)

        return call

    def _opened(self, file: Any, mode: str, **options: Any) -> _File:
        if not isinstance(file, int):  # else it is open, and nothing of the system is asked
            error = self.meet("open")
            if error is not None:
                raise error
        return _File(self, open(file, mode, **options))


class _File:
    """An open file."""

    def __init__(self, disk: Disk, file: Any) -> None:
        self._disk = disk
        self._file = file

    def __enter__(self) -> _File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        failed = self._disk.meet("close")
        if failed is not None and error is None:
            raise failed

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._file, name)
        if name not in FILES:
            return there

        def call(*args: Any) -> Any:
            error = self._disk.meet(name)
            if error is not None:
                if name == "writelines":
                    whole = b"".join(args[0])
                    self._file.write(whole[: len(whole) // 2])
                raise error
            return there(*args)

        return call
