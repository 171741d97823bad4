"""Runs code in a forked child of the test."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable


def in_forked_child(work: Callable[[], str]) -> str:
    """Return what a function returns in a forked child of this process."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork with threads
        child = os.fork()
    if not child:
        try:
            os.write(writer, work().encode())
        except BaseException:  # noqa: BLE001 - the child must end here, and never continue the test
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text
