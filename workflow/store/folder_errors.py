"""What the system's errors mean for who uses a folder as a store, in one table.

Called by the folder adapter only; apart from it so that a test can hold the table against what systems answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from workflow.errors import StoreRefusedError, StoreUnavailableError

REFUSED: Final = {
    errno.EACCES: "give this user the right to read and write there",
    errno.EPERM: "give this user the right to read and write there, on a file system with hard links",
    errno.EROFS: "the file system is mounted read-only; choose another folder",
    errno.ENOTDIR: "a file stands where a folder must be; move it away, or choose another folder",
    errno.EISDIR: "a folder stands where the object must be; move it away, or choose another folder",
    errno.ENAMETOOLONG: "the path is too long; choose a folder nearer to the file system's root",
    errno.ELOOP: "its links lead in a circle; choose another folder",
    errno.EMLINK: "the file system has no room for another link; choose another folder",
    errno.EXDEV: "the folder is spread over file systems; choose one that is not",
    errno.EOPNOTSUPP: "the file system has no hard links; choose another folder",
    errno.ENOSYS: "the file system has no hard links; choose another folder",
    errno.EINVAL: "the file system does not take such a name; choose another folder",
}
UNAVAILABLE: Final = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "this user's quota is used up; free some space",
    errno.EIO: "the disk failed; look at the system's log",
    errno.EMFILE: "this process has too many open files; raise its limit",
    errno.ENFILE: "the system has too many open files",
    errno.ESTALE: "the network file system was mounted anew",
    errno.ETIMEDOUT: "the network file system does not answer",
}


@contextlib.contextmanager
def translated(doing: str, key: str, path: str) -> Iterator[None]:
    """Turn an error of the system into one of this library, with what was done, where, and what helps."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        text = f"cannot {doing} {key!r} at {path}: {error.strerror or error}"
        name = errno.errorcode.get(number, os.strerror(number))
        if number in REFUSED:
            raise StoreRefusedError(f"{text} ({name}); {REFUSED[number]}", key=key, path=path) from error
        advice = UNAVAILABLE.get(number, "the system gave an error that is not known to pass by itself or to last")
        raise StoreUnavailableError(f"{text} ({name}); {advice}", key=key, path=path) from error
