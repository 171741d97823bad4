"""Explains why a worker of Ray cannot import this library, so that it cannot create a manager. `discovery` uses it.

A worker imports the library again. Its search path begins with the `working_dir`, or with the driver's present folder,
which is not part of the driver's own path. A file `workflow.py` in such a folder hides the library.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Final

from workflow.errors import InvalidInputError

_FAILED: Final = "failed to import on the worker"
"""Part of Ray's error for an actor whose class cannot be imported."""

_REASON: Final = re.compile(r"^\w*(?:Error|Exception|Exit)\b.*", re.MULTILINE)
_HIDDEN: Final = re.compile(r"No module named 'workflow\.|'workflow' is not a package")


def explained(text: str, hiding: str) -> InvalidInputError | None:
    """Return the error for an actor that a worker cannot import; None if the text has another reason.

    Args:
        text: Ray's error about the actor.
        hiding: a file of this machine that hides the library in workers, or an empty string.
    """
    if _FAILED not in text:
        return None
    reasons = [line for line in _REASON.findall(text) if _FAILED not in line]
    reason = reasons[-1] if reasons else "the reason is in the log of the worker"
    if _HIDDEN.search(reason):
        found = hiding or "a file workflow.py or a folder workflow in working_dir, py_modules or the present folder"
        advice = f"rename {found}: it hides this library in workers, for which the name workflow is reserved"
    else:
        advice = "install rayworkflow[ray] in the image of the workers, or with ray.init(runtime_env={'pip': [...]})"
    return InvalidInputError(f"the workers of Ray cannot import this library: {reason}; {advice}")


def hiding_file(folders: Iterable[str], library: str) -> str:
    """Return a module or package in one of these folders that hides the library; empty if there is none.

    Args:
        folders: folders that may be on the search path of workers.
        library: the folder of this library.
    """
    for folder in folders:
        for name in ("workflow/__init__.py", "workflow.py"):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.samefile(os.path.dirname(path), library):
                return path
    return ""


def folders_here() -> list[str]:
    """Return the folders of this driver that Ray puts on the search path of workers."""
    return [os.getcwd(), os.path.dirname(os.path.realpath(sys.argv[0]))]
