"""Folders for a group of users: what one of them creates, the others can use.

Only the folder adapter uses it. A folder is for its group if it has the setgid bit and the group may write. In all
other folders, the modes of new files and folders follow the umask.
"""

from __future__ import annotations

import contextlib
import os
from stat import S_IMODE, S_ISGID, S_IWGRP
from typing import Final

_GROUP_FOLDER: Final = S_ISGID | 0o070
_GROUP_FILE: Final = 0o060


def make_folder(path: str) -> None:
    """Create a folder, for the group if its parent is for the group. Do nothing if it exists."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        if _is_for_group(os.stat(os.path.dirname(path))):
            os.chmod(path, S_IMODE(os.stat(path).st_mode) | _GROUP_FOLDER)


def share_with_group(file: int, folder: int | str) -> None:
    """Allow the group to use a new file if its folder is for the group.

    Args:
        file: descriptor of the file.
        folder: descriptor or path of its folder.
    """
    mode = S_IMODE(os.fstat(file).st_mode)
    if mode & _GROUP_FILE != _GROUP_FILE and _is_for_group(os.stat(folder)):
        with contextlib.suppress(PermissionError):  # another user created the file, and decides about its mode
            os.fchmod(file, mode | _GROUP_FILE)


def _is_for_group(folder: os.stat_result) -> bool:
    return folder.st_mode & (S_ISGID | S_IWGRP) == S_ISGID | S_IWGRP
