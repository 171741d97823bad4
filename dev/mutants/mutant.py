"""What the parts of the mutation tests exchange: a mutant, and the verdict of its tests."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

ID_LENGTH: Final = 8


class Key(NamedTuple):
    """The identity of a mutant. It stays the same if code elsewhere in the module changes.

    Attributes:
        module: the path of the module from the root of the checkout.
        function: the qualified name of the function or class, or `<module>`.
        diff: the removed and added lines with their signs, without indentation.
    """

    module: str
    function: str
    diff: str

    @property
    def id(self) -> str:
        """Return a short name, with which a run can be limited to this mutant."""
        return hashlib.sha256("\n".join(self).encode()).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class Mutant:
    """One module with one small change.

    Attributes:
        key: its identity.
        lines: the lines of the original statement, counted from 1.
        function: the lines of the function around the statement; empty outside of functions.
        code: the text of the changed module.
    """

    key: Key
    lines: range
    function: range
    code: str


class Verdict(enum.Enum):
    """What became of a mutant. The values are the headings of the table."""

    NOTICED = "noticed"
    TIMED_OUT = "timed out"
    EQUIVALENT = "equivalent"
    SURVIVED = "survived"
    UNTESTED = "no test"
    WRONGLY_LISTED = "wrongly listed"


UNWANTED: Final = frozenset({Verdict.SURVIVED, Verdict.UNTESTED, Verdict.WRONGLY_LISTED})
"""A run with one of these verdicts fails."""
