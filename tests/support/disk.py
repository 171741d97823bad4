"""A failing disk: it replaces the system calls of the folder store, and makes chosen calls fail."""

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
"""Receives the number of a call, from 1, and its name. Returns the errno with which the call fails, or None."""


class Disk:
    """Replaces `os` and `open` in the folder store.

    A failing call may have a partial effect, like a real call. Half of the bytes are written, or the file is closed.

    Attributes:
        calls: names of the calls so far.
        failed: names of the calls that failed.
        choose: decides which calls fail. At first no call fails.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failed: list[str] = []
        self.choose: Choice = lambda number, name: None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Disk:
        """Replace `os` and `open` in the folder store until the end of the test."""
        monkeypatch.setattr(folder, "os", self)
        monkeypatch.setitem(vars(folder), "open", self._opened)
        return self

    def next_error(self, name: str) -> OSError | None:
        """Count a call, and return its error or None."""
        self.calls.append(name)
        number = self.choose(len(self.calls), name)
        if number is None:
            return None
        self.failed.append(name)
        return OSError(number, os.strerror(number))

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name not in CALLS or isinstance(original, ModuleType):
            return original

        def call(*args: Any, **options: Any) -> Any:
            error = self.next_error(name)
            if error is not None:
                if name == "close":
                    original(*args)
                raise error
            return original(*args, **options)

        return call

    def _opened(self, file: Any, mode: str, **options: Any) -> _File:
        if not isinstance(file, int):  # a descriptor is open already, so there is no system call
            error = self.next_error("open")
            if error is not None:
                raise error
        return _File(self, open(file, mode, **options))


class _File:
    """An open file whose calls may fail."""

    def __init__(self, disk: Disk, file: Any) -> None:
        self._disk = disk
        self._file = file

    def __enter__(self) -> _File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        failed = self._disk.next_error("close")
        if failed is not None and error is None:
            raise failed

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._file, name)
        if name not in FILES:
            return original

        def call(*args: Any) -> Any:
            error = self._disk.next_error(name)
            if error is not None:
                if name == "writelines":
                    content = b"".join(args[0])
                    self._file.write(content[: len(content) // 2])
                raise error
            return original(*args)

        return call
