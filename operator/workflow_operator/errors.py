"""The operator's errors, by what they mean for the reconciliation that met them.

    OperatorError
    ├── UnreachableError    no answer, or a temporary failure: the outcome is unknown, and the operator retries
    │   └── AnsweredError   the server answered that it failed: it is alive
    ├── RefusedError        the request was rejected: a condition shows the reason, and the user must change something
    └── ConflictError       the object changed after it was read: the operator observes again at once

Adapters translate the errors of their libraries into these. The modules above the adapters catch only these.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of the operator's own errors. The text names the request and its target, and never contains a secret."""


class UnreachableError(OperatorError):
    """There was no answer, or a temporary failure. The outcome is unknown, and a retry may succeed."""


class AnsweredError(UnreachableError):
    """The server answered with a failure. A retry may succeed, and the answer shows that the server is alive."""


class RefusedError(OperatorError):
    """The request was rejected. It will be rejected again until the user or an administrator changes something."""


class ConflictError(OperatorError):
    """The object was changed by another client after it was read."""
