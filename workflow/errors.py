"""The errors of the library, by what their reader must do. Imports nothing; every room raises from here.

    WorkflowError
    ├── Invalid                     fix the call, the code or the settings, then try again
    │   ├── WrongType               an argument is of another kind than asked for: also a TypeError
    │   ├── EntrypointInvalid       what a Workflow resource names cannot be loaded or called
    │   ├── StoreRefused            the store said no: bucket, credentials, address, or a property it lacks
    │   └── WorkflowConflict        the id is used by another DAG, or the run is in a state that forbids the call
    │       ├── WorkflowNotFoundError      nothing is stored under this id
    │       ├── WorkflowRunningError       it runs; cancel it first
    │       └── WorkflowNotResumableError  it was canceled, so it cannot go on
    ├── Unavailable                 nothing is wrong with the call; try again later
    │   └── StoreUnavailable        the store did not answer, or answered that it cannot now
    ├── Ownership                   stop: somebody else owns the run
    │   ├── Fenced                  a later epoch owns it; nothing this side does will be committed
    │   ├── Superseded              this submission was replaced by a later attempt, or its run was ended or deleted
    │   └── InUse                   another owner, which still lives, runs this workflow id
    ├── Corrupt                     repair: a stored object is damaged; its key is in the text
    ├── NewerFormatError            upgrade: a newer version wrote a stored object; its key is in the text
    ├── WorkflowExecutionError      the workflow ended without a value
    │   ├── StepFailed              a step raised, after all its tries: the cause of the user's own exception
    │   └── WorkflowCancellationError  it was canceled
    └── Bug                         a broken invariant of this library: please report it

What Ray's workflow library 1.x has a name for is called so here. Every error survives pickling with its fields,
because Ray carries them between processes.
"""

from __future__ import annotations

from typing import Any


class WorkflowError(Exception):
    """Base of all errors of this library.

    Args:
        message: what was wrong, where, and what to do. Ids belong in this text.
        **fields: the same facts for programs; each becomes an attribute.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.fields = dict(fields)
        for name, value in fields.items():
            setattr(self, name, value)


class InvalidInputError(WorkflowError, ValueError):
    """Fix the call, the code or the settings, then try again."""


class WrongTypeError(InvalidInputError, TypeError):
    """An argument is of another kind than asked for."""


class EntrypointError(InvalidInputError):
    """What a Workflow resource names cannot be loaded or called."""


class StoreRefusedError(InvalidInputError):
    """The store said no: bucket, credentials or address are wrong, or it lacks a property the log needs."""


class WorkflowConflictError(InvalidInputError):
    """The id is used by another DAG, or the run is in a state that forbids the call."""


class WorkflowNotFoundError(WorkflowConflictError):
    """Nothing is stored under this workflow id."""


class WorkflowRunningError(WorkflowConflictError):
    """The workflow runs, which forbids the call; cancel it first."""


class WorkflowNotResumableError(WorkflowConflictError):
    """The workflow was canceled, so that it cannot go on."""


class UnavailableError(WorkflowError):
    """Nothing is wrong with the call; try again later."""


class StoreUnavailableError(UnavailableError):
    """The store did not answer, or answered that it cannot now."""


class OwnershipError(WorkflowError):
    """Stop: somebody else owns the run."""


class FencedError(OwnershipError):
    """A later epoch owns the run; nothing this side does will be committed."""


class SupersededError(OwnershipError):
    """This submission was replaced by a later attempt, or its run was ended or deleted."""


class WorkflowInUseError(OwnershipError):
    """Another owner, which still lives, runs this workflow id."""


class CorruptLogError(WorkflowError):
    """A stored object is damaged; its key is in the text."""


class NewerFormatError(WorkflowError):
    """A newer version of the library wrote a stored object, and this version cannot read it: upgrade.

    The object is not damaged. The text names its key, what is unknown, and the version that wrote it.
    """


class WorkflowExecutionError(WorkflowError):
    """The workflow ended without a value."""


class StepFailed(WorkflowExecutionError):
    """A step raised, after all its tries.

    It is the `__cause__` of the user's exception, and is raised itself where that one could not be carried.
    """


class WorkflowCancellationError(WorkflowExecutionError):
    """The workflow was canceled."""


class InternalError(WorkflowError):
    """A broken invariant of this library: please report it with the text."""
