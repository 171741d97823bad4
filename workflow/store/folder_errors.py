"""Translates errors of the operating system into errors of this library, by one table.

Only the folder adapter uses it. It is a module of its own so that a test can compare the table with real errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from workflow.errors import StoreRefusedError, StoreUnavailableError

REFUSED: Final = {
    errno.EACCES: "allow this user to read and write there (docs/stores.md shows a folder for a group)",
    errno.EPERM: "allow this user to read and write there, on a file system with hard links",
    errno.EROFS: "the file system is mounted read-only; choose another folder",
    errno.ENOTDIR: "there is a file in the place of a folder; move it, or choose another folder",
    errno.EISDIR: "there is a folder in the place of the object; move it, or choose another folder",
    errno.ENAMETOOLONG: "the path is too long; choose a folder closer to the root of the file system",
    errno.ELOOP: "its symbolic links form a loop; choose another folder",
    errno.EMLINK: "the file system has no room for another link; choose another folder",
    errno.EXDEV: "the folder spans several file systems; choose a folder on one file system",
    errno.EOPNOTSUPP: "the file system has no hard links; choose another folder",
    errno.ENOSYS: "the file system has no hard links; choose another folder",
    errno.EINVAL: "the file system does not accept such a name; choose another folder",
}
"""Errors that a retry does not fix -> advice."""

UNAVAILABLE: Final = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota of this user is used up; free some space",
    errno.EIO: "the disk failed; check the system log",
    errno.EMFILE: "this process has too many open files; raise its limit",
    errno.ENFILE: "the system has too many open files; raise its limit",
    errno.ESTALE: "the network file system was mounted again; try again later",
    errno.ETIMEDOUT: "the network file system does not respond; try again later",
}
"""Errors that may pass -> advice."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that last until a user frees space. A run waits for that, but a first use is refused at once."""


@contextlib.contextmanager
def translate_errors(operation: str, key: str, path: str) -> Iterator[None]:
    """Turn an OSError into an error of this library that names the operation, the key, the cause and the remedy."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        text = f"cannot {operation} {key!r} at {path}: {error.strerror or error}"
        name = errno.errorcode.get(number, os.strerror(number))
        if number in REFUSED:
            raise StoreRefusedError(f"{text} ({name}); {REFUSED[number]}", key=key, path=path) from error
        advice = UNAVAILABLE.get(number, "this error is not in the table of known errors; check the system log")
        raise StoreUnavailableError(f"{text} ({name}); {advice}", key=key, path=path, lasting=number in FULL) from error
