"""The errors of the library, grouped by what the reader has to do. All other modules raise them; this one imports none.

    WorkflowError
    ├── InvalidInputError               correct the call, the code or the settings
    │   ├── WrongTypeError              an argument has the wrong type; it is a TypeError, too
    │   ├── EntrypointError             what a Workflow resource names cannot be loaded or called
    │   ├── StoreRefusedError           the store refused: bucket, credentials, address, or a missing property
    │   └── WorkflowConflictError       the id is used by another DAG, or the run's state does not allow the call
    │       ├── WorkflowNotFoundError       nothing is stored under this id
    │       ├── WorkflowRunningError        the workflow is running; cancel it first
    │       └── WorkflowNotResumableError   the workflow was canceled, so it cannot be resumed
    ├── UnavailableError                the call is correct; try again later
    │   ├── OwnerLostError              no process runs the workflow any more; resume it (also a WorkflowConflictError)
    │   └── StoreUnavailableError       the store did not respond, or responded that it is unavailable
    ├── OwnershipError                  stop: another manager or Workflow object owns the run
    │   ├── FencedError                 a later epoch owns the run; this process can commit nothing more
    │   ├── SupersededError             a later attempt replaced this one, or the run was deleted
    │   └── WorkflowInUseError          another owner, which is not known to be lost, runs this workflow id; it is a
    │                                   RuntimeError, too
    ├── CorruptLogError                 a stored object is damaged; the text names its key
    ├── NewerFormatError                a newer version of the library wrote a stored object; upgrade
    ├── WorkflowExecutionError          the workflow finished without a value
    │   ├── StepFailedError             a step raised in its last attempt; the cause of the user's own exception
    │   └── WorkflowCancellationError   the workflow was canceled
    └── InternalError                   a bug in this library: please report it

Classes that exist in the workflow library of Ray 1.x have the same names here. Every error keeps its fields when it is
pickled, because Ray passes errors between processes.
"""

from __future__ import annotations

from typing import Any


class WorkflowError(Exception):
    """Base class of all errors of this library.

    Args:
        message: what failed, why, and what the reader can do. It contains the ids that matter.
        **fields: the same facts for programs; each becomes an attribute of the error.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.fields = dict(fields)
        for name, value in fields.items():
            setattr(self, name, value)

    @property
    def message(self) -> str:
        """The text of the error."""
        return str(self.args[0])


class InvalidInputError(WorkflowError, ValueError):
    """The call, the code or the settings are wrong. Correct what the text names."""


class WrongTypeError(InvalidInputError, TypeError):
    """An argument has the wrong type."""


class EntrypointError(InvalidInputError):
    """The entrypoint or the arguments that a Workflow resource names cannot be loaded or called."""


class StoreRefusedError(InvalidInputError):
    """The store refused: bucket, credentials or address are wrong, or it lacks a property that the log needs."""


class WorkflowConflictError(InvalidInputError):
    """The workflow id is used by another DAG, or the state of the run does not allow the call."""


class WorkflowNotFoundError(WorkflowConflictError):
    """Nothing is stored under this workflow id, or the run has no such step."""


class WorkflowRunningError(WorkflowConflictError):
    """The workflow is running, and the call is not allowed for a running workflow. Cancel it first."""


class WorkflowNotResumableError(WorkflowConflictError):
    """The workflow was canceled, so it cannot be resumed."""


class UnavailableError(WorkflowError):
    """A process or service did not respond, but the call is correct. Try again later."""


class StoreUnavailableError(UnavailableError):
    """The store did not respond, or responded that it is unavailable at the moment."""


class OwnerLostError(UnavailableError, WorkflowConflictError):
    """No process runs the workflow any more, so it will not finish by itself. Call `workflow.resume`."""


class OwnershipError(WorkflowError):
    """Another manager or Workflow object owns the run. Stop working on it."""


class FencedError(OwnershipError):
    """A later epoch owns the run, so this process can commit nothing more to it."""


class SupersededError(OwnershipError):
    """A later submission attempt replaced this one, or the run was deleted or replaced."""


class WorkflowInUseError(OwnershipError, RuntimeError):
    """Another owner, which is not known to be lost, runs this workflow id."""


class CorruptLogError(WorkflowError):
    """A stored object is damaged. The text names its key. The field `missing` is True if the object does not exist."""


class NewerFormatError(WorkflowError):
    """A newer version of the library wrote a stored object, and this version cannot read it: upgrade.

    The object is not damaged. The text names its key, what is unknown, and the version that wrote it.
    """


class WorkflowExecutionError(WorkflowError):
    """The workflow finished without a value."""


class StepFailedError(WorkflowExecutionError):
    """A step raised in its last attempt.

    It is the `__cause__` of the user's exception. It is raised itself if no exception is stored with the failure.
    """


class WorkflowCancellationError(WorkflowExecutionError):
    """The workflow was canceled."""


class InternalError(WorkflowError):
    """An invariant of this library is broken. Please report it with its text."""
