"""What can go wrong between the operator and the world, by what it means for the round of reconciling that met it.

    OperatorError
    ├── Unreachable     no answer, or "not now": nothing is known; look again later
    ├── Refused         the other side said no; its reason goes into a condition, and somebody must change something
    └── Conflict        the object changed since it was read: observe again, at once

Adapters translate the errors of the libraries they use into these; nothing above them catches a foreign one.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of the operator's own errors. The text names what was asked and of whom, and never holds a secret."""


class UnreachableError(OperatorError):
    """No answer, or an answer that it cannot now: nothing is known, and asking again may help."""


class RefusedError(OperatorError):
    """The other side said no, and will say no again until somebody changes something."""


class ConflictError(OperatorError):
    """The object was changed by somebody else since it was read."""
