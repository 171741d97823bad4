"""A store in a folder: a path, or `file:///path`.

For one machine, or for several that mount the folder over a network file system with hard links. An object is a file:
its bytes, then a trailer with a digest of its put id. It appears under its name whole or not at all: written to a
temporary file in the same folder, synced, linked to its name (which fails where the name is taken), and the folder is
synced. A temporary file that a killed writer left is removed by whoever lists its folder a day later.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator
from stat import S_ISDIR, S_ISREG
from typing import Final, TypeVar

from workflow.errors import CorruptLogError, StoreUnavailableError
from workflow.store.folder_errors import translated
from workflow.store.key_rules import RESERVED, check_key
from workflow.store.port import Allocate, Data, ObjectInfo

_CLOCK: Final = f"{RESERVED}clock"
_MAGIC: Final = b"rwf-put\n"
_DIGEST_SIZE: Final = 16
_TRAILER_SIZE: Final = _DIGEST_SIZE + len(_MAGIC)
_FOLDERS_REMEMBERED: Final = 10_000
_TRIES_WHILE_FOLDERS_GO: Final = 100
_ABANDONED: Final = 86_400.0
"""Seconds without a change, by the file system's clock, after which a temporary file is nobody's any more."""

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY

T = TypeVar("T")


class FolderStore:
    """A store whose objects are files below a folder.

    Args:
        root: absolute path; made at the first write.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._clock_file = os.path.join(root, _CLOCK)
        self._durable: set[str] = set()

    @property
    def url(self) -> str:
        """The folder's path."""
        return self._root

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """See the port."""
        return self._write(key, data, _trailer(put_id), replace=False)

    def overwrite(self, key: str, data: bytes) -> None:
        """See the port."""
        self._write(key, data, _trailer(""), replace=True)

    def get(self, key: str) -> bytes | None:
        """See the port.

        Raises:
            Corrupt: the file was not written by this store, or was damaged.
        """
        return self._read(key, lambda file, size: file.read(size))

    def fetch(self, key: str, allocate: Allocate) -> bool:
        """See the port; raises as `get` does."""
        return self._read(key, lambda file, size: file.readinto(allocate(size))) is not None

    def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        path = self._path(key)
        with translated("look at", key, path):
            try:
                # A network file system may answer stat from its cache, but asks the server when a file is opened.
                with open(path, "rb", buffering=0) as file:
                    found = os.fstat(file.fileno())
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            return _info(key, found, self._now())

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """See the port. Folders are read as the iterator comes to them."""
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        return self._listed(folder + "/" if folder else "", prefix, start_after)

    def delete(self, key: str) -> None:
        """See the port. A power cut may bring the object back: no fsync."""
        path = self._path(key)
        with translated("remove", key, path):
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            self._remove_empty(os.path.dirname(path))

    def close(self) -> None:
        """Nothing to give back: no file is held open."""

    def _path(self, key: str) -> str:
        check_key(key)
        return os.path.join(self._root, key)

    def _read(self, key: str, read: Callable[[io.BufferedReader, int], T]) -> T | None:
        path = self._path(key)
        with translated("read", key, path):
            try:
                with open(path, "rb") as file:
                    found = read(file, max(0, os.fstat(file.fileno()).st_size - _TRAILER_SIZE))
                    trailer = file.read(_TRAILER_SIZE + 1)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        if len(trailer) != _TRAILER_SIZE or not trailer.endswith(_MAGIC):
            raise CorruptLogError(f"{path}: the end of the file is damaged, or no store wrote it (key {key})", key=key)
        return found

    def _write(self, key: str, data: Data, trailer: bytes, *, replace: bool) -> bool:
        path = self._path(key)
        folder, name = os.path.split(path)
        with translated("write", key, path):
            for _ in range(_TRIES_WHILE_FOLDERS_GO):
                try:
                    self._make_durable(folder)
                    folder_fd = os.open(folder, _OPEN_FOLDER)
                    try:
                        return _write_in(folder_fd, name, data, trailer, replace=replace)
                    finally:
                        os.close(folder_fd)
                except FileNotFoundError:
                    # A delete took the folder's last file, and the folder, or the object that stood in the way.
                    self._forget(folder)
        raise StoreUnavailableError(f"{path}: others keep removing what stands there while {key} is written", key=key)

    def _make_durable(self, folder: str) -> None:
        """Make the folder and see that a power cut does not take it, whoever made it."""
        if folder in self._durable:
            return
        parent = os.path.dirname(folder)
        if folder != self._root:
            self._make_durable(parent)
            _make_folder(folder)
            _sync_folder(parent)
        elif not os.path.isdir(folder):
            self._make_durable_root(folder)
        if len(self._durable) >= _FOLDERS_REMEMBERED:
            self._durable.clear()
        self._durable.add(folder)

    def _forget(self, folder: str) -> None:
        while folder != self._root:
            self._durable.discard(folder)
            folder = os.path.dirname(folder)
        self._durable.discard(folder)

    def _remove_empty(self, folder: str) -> None:
        """Remove a folder without files, and those above it that have no other then."""
        with contextlib.suppress(OSError):  # it is not empty, or somebody else removed it
            while folder != self._root:
                os.rmdir(folder)
                self._durable.discard(folder)
                folder = os.path.dirname(folder)

    def _make_durable_root(self, folder: str) -> None:
        parent = os.path.dirname(folder)
        if not os.path.isdir(parent):
            self._make_durable_root(parent)
        _make_folder(folder)
        _sync_folder(parent)

    def _listed(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        path = os.path.join(self._root, folder)
        with translated("list", folder, path):
            found = _scan(path)
            now = self._now() if found else 0.0
            self._remove_abandoned(path.rstrip("/"), found, now)
        # A folder sorts as its keys do: with the `/` behind its name.
        entries = sorted(
            (folder + name + ("/" if S_ISDIR(state.st_mode) else ""), state) for name, state in found.items()
        )
        for key, state in entries:
            if S_ISREG(state.st_mode):
                if key.startswith(prefix) and key > start_after:
                    yield _info(key, state, now)
            elif _overlap(key, prefix) and (key > start_after or start_after.startswith(key)):
                yield from self._listed(key, prefix, start_after)

    def _remove_abandoned(self, folder: str, found: dict[str, os.stat_result], now: float) -> None:
        """Take the temporary files out of what was found in a folder. The old ones are removed; an empty folder, too.

        A writer that slept for so long and comes back finds its file gone, and writes it once more.
        """
        for name in [each for each in found if each.startswith(RESERVED)]:
            if now - found.pop(name).st_mtime > _ABANDONED:
                with contextlib.suppress(OSError):  # who may only read leaves it
                    os.unlink(os.path.join(folder, name))
                    self._remove_empty(folder)

    def _now(self) -> float:
        """The file system's clock, as it stamps files: a server's where it is one, never that of this machine."""
        try:
            fd = os.open(self._clock_file, os.O_CREAT | os.O_WRONLY, 0o666)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return time.time()  # who may only read has but its own clock
            raise
        try:
            os.utime(fd)
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)


def _trailer(put_id: str) -> bytes:
    return hashlib.blake2b(put_id.encode(), digest_size=_DIGEST_SIZE).digest() + _MAGIC


def _info(key: str, state: os.stat_result, now: float) -> ObjectInfo:
    return ObjectInfo(key, max(0, state.st_size - _TRAILER_SIZE), max(0.0, now - state.st_mtime))


def _overlap(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)


def _scan(path: str) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name != _CLOCK:
                    with contextlib.suppress(FileNotFoundError):  # removed since the folder was read
                        found[entry.name] = entry.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def _make_folder(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)


def _sync_folder(path: str) -> None:
    fd = os.open(path, _OPEN_FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_in(folder_fd: int, name: str, data: Data, trailer: bytes, *, replace: bool) -> bool:
    """Write a file durably; False where another stands there (never, if it may be replaced)."""
    temporary = f"{RESERVED}{uuid.uuid4().hex}"
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=folder_fd)
    try:
        with open(fd, "wb") as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
            file.write(trailer)
            file.flush()
            os.fsync(fd)
        if replace:
            os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            won = True
        else:
            won = _link(temporary, name, folder_fd) or _trailer_of(name, folder_fd) == trailer
        # Also where it was lost: what the loser reads next must not vanish in a power cut.
        os.fsync(folder_fd)
        return won
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder_fd)


def _link(temporary: str, name: str, folder_fd: int) -> bool:
    try:
        os.link(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except FileExistsError:
        return False
    return True


def _trailer_of(name: str, folder_fd: int) -> bytes:
    fd = os.open(name, os.O_RDONLY, dir_fd=folder_fd)
    try:
        return os.pread(fd, _TRAILER_SIZE, max(0, os.fstat(fd).st_size - _TRAILER_SIZE))
    finally:
        os.close(fd)
