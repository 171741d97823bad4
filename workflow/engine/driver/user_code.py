"""Identifies the code of the user that a process has loaded, for the fingerprint of its environment.

Anything may be in `sys.modules`: lazy modules, proxies, test doubles, modules from archives. None of them may fail a
run that does not use it. So this module reads as little as possible from them, and a module without a readable file
has a mark in place of a hash.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import workflow

_PACKAGE_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_BLOCK: Final = 1 << 20


def loaded_code(modules: Mapping[str, Any]) -> list[str]:
    """Return path and content hash of each file from which the user's modules were loaded, sorted.

    A module from an archive (a zip application, for example) has the hash of the whole archive.

    Args:
        modules: the loaded modules by name, usually `sys.modules`. Modules of Python itself, of installed packages and
            of this library are left out.
    """
    loaded = dict(modules)  # a copy: other threads, and modules that load themselves when they are read, may change it
    paths = {_user_path(file) for file in map(file_of, loaded.values()) if file}
    return [f"{path} {content_of(path)}" for path in sorted(paths - {""})]


def library_code() -> str:
    """Return a hash of this library's source."""
    return _library_code(next(iter(workflow.__path__)))


@cache
def _library_code(folder: str) -> str:
    root = Path(folder)
    if not root.is_dir():  # the library is in an archive
        return content_of(folder)
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def file_of(module: object) -> str:
    """Return the path of a module's file; empty if it has none.

    The attributes of real modules are read without their `__getattr__`, which may import something. Other objects that
    replaced a module may raise anything.
    """
    try:
        if issubclass(type(module), ModuleType):  # `isinstance` would read `__class__`, and so load a lazy module
            file = object.__getattribute__(module, "__dict__").get("__file__")
        else:
            file = getattr(module, "__file__", None)
        return os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""
    except Exception:  # noqa: BLE001 - such an object has no file that could be read
        return ""


def content_of(path: str) -> str:
    """Return the hash of a file, or of the archive that contains it, or a mark if it cannot be read.

    Args:
        path: absolute path, for example `/app/flow.py` or `/app.pyz/flow.py`.
    """
    found = path
    while True:
        try:
            status = os.stat(found)
            break
        except (FileNotFoundError, NotADirectoryError):
            if found == os.path.dirname(found):
                return "gone"
            found = os.path.dirname(found)
        except (
            OSError,
            ValueError,
        ):  # a closed folder, a loop of links, a name with a null character
            return "unreadable"
    if stat.S_ISDIR(status.st_mode):
        return "folder" if found == path else "gone"
    changes = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if not stat.S_ISREG(status.st_mode):  # a read from a pipe or a device could block
        return "unreadable"
    try:
        return _hash_of_file(found, changes)
    except FileNotFoundError:  # it was deleted after `stat`
        return "gone"
    except OSError:
        return f"unreadable {status.st_size} {status.st_mtime_ns}"


@lru_cache(10_000)
def _hash_of_file(path: str, changes: tuple[int, ...]) -> str:
    """Return a hash of a file. The file is read again if something in `changes` is different."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@lru_cache(100_000)
def _user_path(file: str) -> str:
    """Return the resolved path of a user's module; empty if the module is not the user's."""
    try:
        path = os.path.realpath(file)
    except (OSError, ValueError):  # no file can have this name
        return file
    return "" if is_installed(path, _installed_folders()) else path


def is_installed(path: str, folders: tuple[str, ...]) -> bool:
    """Return whether a file belongs to an installed package, or to one of the given folders.

    Args:
        path: resolved path of the file.
        folders: resolved paths of the folders.
    """
    return not _PACKAGE_FOLDERS.isdisjoint(path.split(os.sep)) or path.startswith(
        tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
    )


@cache
def _installed_folders() -> tuple[str, ...]:
    """Return the folders of Python's own modules and of this library.

    `sys.prefix` is not one of them. It may be `/usr`, below which containers keep the user's code in `/usr/src/app`, or
    a virtual environment in the project's own folder.
    """
    bases = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    bases |= {f"installed_{name}": folder for name, folder in bases.items()}
    standard = [sysconfig.get_path(name, vars=given) for name in ("stdlib", "platstdlib") for given in (None, bases)]
    return tuple({os.path.realpath(folder) for folder in (*standard, next(iter(workflow.__path__)))})
