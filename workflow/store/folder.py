"""A store in a folder: a path, or `file:///path`.

It serves one machine, or several machines that mount the folder over a network file system with hard links. An object
is one file: its bytes, then a trailer with a digest of its put id.

An object appears under its name completely or not at all. The store writes a temporary file in the same folder, syncs
it, links it to its name and syncs the folder. The link fails if the name exists. If a writer is killed, its temporary
file stays; a list of the folder removes it after one day.
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
from workflow.store.folder_errors import translate_errors
from workflow.store.folder_sharing import make_folder, share_with_group
from workflow.store.key_rules import RESERVED, check_key
from workflow.store.port import Allocate, Data, ObjectInfo

_CLOCK: Final = f"{RESERVED}clock"
_MAGIC: Final = b"rwf-put\n"
_DIGEST_SIZE: Final = 16
_TRAILER_SIZE: Final = _DIGEST_SIZE + len(_MAGIC)
_MAX_KNOWN_FOLDERS: Final = 10_000
_MAX_WRITES_WHILE_FOLDERS_VANISH: Final = 100
_TEMPORARY_FILE_LIFETIME: Final = 86_400.0
"""Seconds after the last write, by the clock of the file system, after which a temporary file has no writer."""

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY

T = TypeVar("T")


class FolderStore:
    """A store whose objects are files below a folder. `workflow.store.Store` documents its methods.

    Args:
        root: absolute path of the folder. The first write creates it.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._clock_file = os.path.join(root, _CLOCK)
        self._durable_folders: set[str] = set()

    @property
    def url(self) -> str:
        """The path of the folder."""
        return self._root

    def create(self, key: str, data: Data, put_id: str) -> bool:
        return self._write(key, data, _trailer(put_id), replace=False)

    def overwrite(self, key: str, data: bytes) -> None:
        self._write(key, data, _trailer(""), replace=True)

    def get(self, key: str) -> bytes | None:
        """Return the content of an object, or None.

        Raises:
            CorruptLogError: this store did not write the file, or the end of the file is damaged.
        """
        return self._read(key, lambda file, size: file.read(size))

    def fetch(self, key: str, allocate: Allocate) -> bool:
        return self._read(key, lambda file, size: file.readinto(allocate(size))) is not None

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with translate_errors("look at", key, path):
            try:
                # A network file system may answer stat from its cache, but asks the server when a file is opened.
                with open(path, "rb", buffering=0) as file:
                    state = os.fstat(file.fileno())
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            return _info(key, state, self._file_system_time())

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List objects. Each folder is read when the iterator reaches it."""
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        return self._walk(folder + "/" if folder else "", prefix, start_after)

    def delete(self, key: str) -> None:
        """Remove the object without a sync, so a power failure may bring it back."""
        path = self._path(key)
        with translate_errors("remove", key, path):
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            self._remove_empty_folders(os.path.dirname(path))

    def close(self) -> None:
        """Do nothing: the store keeps no file open."""

    def _path(self, key: str) -> str:
        check_key(key)
        return os.path.join(self._root, key)

    def _read(self, key: str, read: Callable[[io.BufferedReader, int], T]) -> T | None:
        path = self._path(key)
        with translate_errors("read", key, path):
            try:
                with open(path, "rb") as file:
                    content = read(file, max(0, os.fstat(file.fileno()).st_size - _TRAILER_SIZE))
                    trailer = file.read(_TRAILER_SIZE + 1)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        if len(trailer) != _TRAILER_SIZE or not trailer.endswith(_MAGIC):
            raise CorruptLogError(
                f"cannot read {key!r} at {path}: the end of the file is damaged, or no store wrote it; "
                "restore the file from a backup",
                key=key,
            )
        return content

    def _write(self, key: str, data: Data, trailer: bytes, *, replace: bool) -> bool:
        path = self._path(key)
        folder, name = os.path.split(path)
        with translate_errors("write", key, path):
            for _ in range(_MAX_WRITES_WHILE_FOLDERS_VANISH):
                try:
                    self._make_durable(folder)
                    folder_fd = os.open(folder, _OPEN_FOLDER)
                    try:
                        return _write_file(folder_fd, name, data, trailer, replace=replace)
                    finally:
                        os.close(folder_fd)
                except FileNotFoundError:
                    # A concurrent delete removed the folder with its last file, or the object under this name.
                    self._forget(folder)
        raise StoreUnavailableError(
            f"cannot write {key!r} at {path}: other processes keep removing its folder; try again", key=key
        )

    def _make_durable(self, folder: str) -> None:
        """Create the folder if it is missing, and sync its parents even if another process created it."""
        if folder in self._durable_folders:
            return
        parent = os.path.dirname(folder)
        if folder != self._root:
            self._make_durable(parent)
            make_folder(folder)
            _sync_folder(parent)
        elif not os.path.isdir(folder):
            self._make_durable_root(folder)
        if len(self._durable_folders) >= _MAX_KNOWN_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def _forget(self, folder: str) -> None:
        while folder != self._root:
            self._durable_folders.discard(folder)
            folder = os.path.dirname(folder)
        self._durable_folders.discard(folder)

    def _remove_empty_folders(self, folder: str) -> None:
        """Remove a folder if it is empty, then each parent that became empty."""
        with contextlib.suppress(OSError):  # it is not empty, or another process removed it
            while folder != self._root:
                os.rmdir(folder)
                self._durable_folders.discard(folder)
                folder = os.path.dirname(folder)

    def _make_durable_root(self, folder: str) -> None:
        parent = os.path.dirname(folder)
        if not os.path.isdir(parent):
            self._make_durable_root(parent)
        make_folder(folder)
        _sync_folder(parent)

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        path = os.path.join(self._root, folder)
        with translate_errors("list", folder, path):
            found = _scan(path)
            now = self._file_system_time() if found else 0.0
            self._take_out_temporary_files(path.rstrip("/"), found, now)
        # A folder sorts like its keys: with a `/` after its name.
        entries = sorted(
            (folder + name + ("/" if S_ISDIR(state.st_mode) else ""), state) for name, state in found.items()
        )
        for key, state in entries:
            if S_ISREG(state.st_mode):
                if key.startswith(prefix) and key > start_after:
                    yield _info(key, state, now)
            elif _may_contain(key, prefix) and (key > start_after or start_after.startswith(key)):
                yield from self._walk(key, prefix, start_after)

    def _take_out_temporary_files(self, folder: str, found: dict[str, os.stat_result], now: float) -> None:
        """Take temporary files out of the content of a folder. Delete the old ones, and the folder if it is then empty.

        If a writer was paused for so long, it finds that its file is gone and writes the file again.
        """
        for name in [each for each in found if each.startswith(RESERVED)]:
            if now - found.pop(name).st_mtime > _TEMPORARY_FILE_LIFETIME:
                with contextlib.suppress(OSError):  # a user who may only read cannot delete it
                    os.unlink(os.path.join(folder, name))
                    self._remove_empty_folders(folder)

    def _file_system_time(self) -> float:
        """Return the time that the file system gives to new files. On a network this is the clock of the server."""
        try:
            fd = os.open(self._clock_file, os.O_CREAT | os.O_WRONLY, 0o666)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return time.time()  # a user who may only read has no other clock
            raise
        try:
            os.utime(fd)
            share_with_group(fd, self._root)
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)


def _trailer(put_id: str) -> bytes:
    return hashlib.blake2b(put_id.encode(), digest_size=_DIGEST_SIZE).digest() + _MAGIC


def _info(key: str, state: os.stat_result, now: float) -> ObjectInfo:
    return ObjectInfo(key, max(0, state.st_size - _TRAILER_SIZE), max(0.0, now - state.st_mtime))


def _may_contain(folder: str, prefix: str) -> bool:
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


def _sync_folder(path: str) -> None:
    fd = os.open(path, _OPEN_FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_file(folder_fd: int, name: str, data: Data, trailer: bytes, *, replace: bool) -> bool:
    """Write a file durably. Return False if the name already belongs to another write, unless it may be replaced."""
    temporary = f"{RESERVED}{uuid.uuid4().hex}"
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=folder_fd)
    try:
        with open(fd, "wb") as file:
            share_with_group(fd, folder_fd)
            file.writelines((data,) if isinstance(data, bytes) else data)
            file.write(trailer)
            file.flush()
            os.fsync(fd)
        if replace:
            os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            won = True
        else:
            won = _link(temporary, name, folder_fd) or _trailer_of(name, folder_fd) == trailer
        # Sync also if another writer won: the object that this caller reads next must survive a power failure.
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
