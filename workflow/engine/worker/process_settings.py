"""Restores the working directory, the environment variables and the alarm of a worker process after each step.

One worker executes many steps, of several runs. A step that changes the directory must not decide where the next step
writes its files. Everything else that a step changes in its process stays, as in a Ray task.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, MutableMapping
from itertools import islice
from typing import Any, Final

_VARIABLES: Final[MutableMapping[Any, Any]] = os.environb if os.supports_bytes_environ else os.environ

_SETTING_NO_VARIABLES: Final = sys.stdlib_module_names | {"ray", "workflow"}
"""If a step imports only these modules, the variables that it set are not kept."""

logger = logging.getLogger(__name__)


class ProcessSettings:
    """The settings of this process, as `save` found them. Reading and comparing them takes a few microseconds."""

    def __init__(self) -> None:
        self._saved = False
        self._folder = ""
        self._variables: Mapping[Any, Any] = {}
        self._alarm = 0.0
        self._module_count = 0

    def save(self) -> None:
        """Remember the settings. Call it after the module of the step was imported, because modules set variables."""
        self._folder = _working_directory()
        self._variables = _variables().copy()
        self._alarm = _seconds_to_alarm()
        self._module_count = len(sys.modules)
        self._saved = True

    def restore(self) -> None:
        """Undo the changes since `save`. Do nothing if `save` was not called."""
        if not self._saved:
            return
        if self._folder and _working_directory() != self._folder:
            try:
                os.chdir(self._folder)
            except OSError as error:
                logger.warning(
                    "cannot return to the working directory of this worker, which a step left: %s; steps that it "
                    "executes later run in %s",
                    error,
                    _working_directory() or "a folder that was deleted",
                )
        if not self._alarm and _seconds_to_alarm():
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        if _variables() != self._variables and not self._has_imported():
            self._restore_variables()

    def _restore_variables(self) -> None:
        for name in _variables().keys() - self._variables.keys():
            del _VARIABLES[name]
        for name, value in self._variables.items():
            if _VARIABLES.get(name) != value:
                _VARIABLES[name] = value

    def _has_imported(self) -> bool:
        """Return whether the step imported a module of the user or of another library.

        Such a module may set variables that it needs. It is imported once per process, so later steps need them, too.
        """
        added = islice(reversed(sys.modules), max(len(sys.modules) - self._module_count, 0))
        return any(name.partition(".")[0] not in _SETTING_NO_VARIABLES for name in added)


def _working_directory() -> str:
    """Return the working directory; empty if it was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _variables() -> dict[Any, Any]:
    """Return the variables of `_VARIABLES`. Its own dictionary is copied and compared ten times faster."""
    found: dict[Any, Any] | None = getattr(_VARIABLES, "_data", None)
    return found if found is not None else dict(_VARIABLES)


def _seconds_to_alarm() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0] if hasattr(signal, "getitimer") else 0.0
