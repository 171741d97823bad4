"""Translates the errors of the library about storage into the values and errors of the operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workflow.errors import (
    CorruptLogError,
    NewerFormatError,
    StoreRefusedError,
    StoreUnavailableError,
    WorkflowError,
)
from workflow_operator.core.observation import Loss, StoreFailure
from workflow_operator.errors import RefusedError, UnreachableError

STORE_FAILURES: tuple[tuple[type[WorkflowError], StoreFailure], ...] = (
    (StoreUnavailableError, StoreFailure.UNAVAILABLE),
    (CorruptLogError, StoreFailure.CORRUPT),
    (NewerFormatError, StoreFailure.NEWER),
    (StoreRefusedError, StoreFailure.REFUSED),
)


@contextmanager
def operator_errors() -> Iterator[None]:
    """Translate the library's errors into the operator's errors."""
    try:
        yield
    except StoreUnavailableError as error:
        raise UnreachableError(str(error)) from error
    except WorkflowError as error:
        raise RefusedError(str(error)) from error


def loss_of(error: WorkflowError) -> Loss | None:
    """Return what is missing according to an error of the library."""
    if isinstance(error, CorruptLogError):
        return Loss.OBJECT if getattr(error, "missing", False) else None
    return Loss.BUCKET if getattr(error, "bucket_missing", False) else None


def store_failure(error: WorkflowError) -> StoreFailure:
    """Return the kind of a failure of a store."""
    return next((failure for kind, failure in STORE_FAILURES if isinstance(error, kind)), StoreFailure.REFUSED)
