"""Where a store is: the default folder, paths that a user gives, and what to do if a location does not work."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workflow.errors import InvalidInputError, StoreRefusedError, StoreUnavailableError, WrongTypeError

VARIABLE: Final = "RAYWORKFLOW_STORAGE"
_CHOOSE: Final = f"call workflow.init(folder) or set {VARIABLE}"


def default_folder() -> str:
    """Return the folder for users who choose none: `$XDG_STATE_HOME/rayworkflow` or `~/.local/state/rayworkflow`.

    Raises:
        InvalidInputError: this user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification of XDG ignores relative paths
        state = os.path.join(_home(), ".local", "state")
    return os.path.join(state, "rayworkflow")


def _home() -> str:
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise InvalidInputError(
            f"cannot choose a folder for workflows: HOME is not set, and user {os.getuid()} has no entry in the user "
            f"database; {_CHOOSE}"
        ) from None


def absolute(storage: str | os.PathLike[str]) -> str:
    """Return an address unchanged, and a folder as an absolute path.

    Raises:
        WrongTypeError: `storage` is neither a string nor a path.
        InvalidInputError: the folder is not a path, or other processes would not find the store.
    """
    if not isinstance(storage, (str, os.PathLike)):
        raise WrongTypeError(f"storage must be an address or a folder, as a string or a path, not {storage!r}")
    address = os.fspath(storage)
    if not isinstance(address, str):
        raise WrongTypeError(f"storage must be an address or a folder, as a string or a path, not {storage!r}")
    if address.lower().startswith("memory://"):
        raise InvalidInputError(
            f"cannot store workflows at {address!r}: each process has its own memory, so the cluster would not find "
            "them; use a folder or s3://bucket/prefix"
        )
    if not address or "://" in address:
        return address
    try:
        return str(Path(address).expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:  # no such user, no current folder, or a NUL in the path
        raise InvalidInputError(
            f"cannot use the folder {address!r}: {error}; give an absolute path to workflow.init or in {VARIABLE}"
        ) from error


@contextlib.contextmanager
def naming_the_choice(url: str, is_default: bool) -> Iterator[None]:
    """Add to the error of a folder that does not work how to choose another one.

    Args:
        url: address of the store.
        is_default: whether the user chose no store.
    """
    try:
        yield
    except (StoreRefusedError, StoreUnavailableError) as error:
        if "://" in url:
            raise
        which = f"{url} is the default folder; to choose another" if is_default else "to choose another folder"
        raise type(error)(f"{error}; {which}, {_CHOOSE}", **error.fields) from error
