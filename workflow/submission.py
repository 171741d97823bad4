"""The contract between the operator and `python -m workflow.entrypoint`: command line, exit codes and refusal reasons.

Both sides import this module, so that a change on one side cannot be forgotten on the other. It needs no Ray.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any, Final

from workflow.errors import InvalidInputError

PROGRAM: Final = ("python", "-m", "workflow.entrypoint")
"""The words of the command line before the JSON text."""

_TEXT_SHOWN: Final = 500


class ExitCode(IntEnum):
    """Why a submission exited. The run's log decides the status of the run; the code only explains the exit."""

    FINISHED = 0
    """The run is in a terminal state, or a tombstone records why it was never created."""
    CRASHED = 1
    """Any other failure, also an uncaught exception. A later submission attempt may succeed."""
    SUPERSEDED = 3
    """A later submission attempt or another object owns the run, or the run was deleted."""
    IN_USE = 4
    """Another owner, which is not known to be lost, runs this workflow id."""
    MANAGER_UNRESPONSIVE = 5
    """The run's manager or the store did not respond in time."""
    BAD_INPUT = 6
    """The submission is malformed, or what it names cannot be loaded here. If the run exists, it stays as it is."""
    CONFLICT = 7
    """A run of another DAG exists under the workflow id. It stays as it is."""
    STORE_REFUSED = 8
    """The store refused a process of this cluster, for example because it has no credentials."""
    CHECKPOINTS_UNREADABLE = 9
    """An object of the run is missing or damaged. Every attempt fails until a user restores it from a copy."""


class Refusal(str, Enum):
    """Reasons for which a run is not created. They are recorded in a tombstone, and never end a run that exists."""

    ENTRYPOINT_INVALID = "EntrypointInvalid"
    """`spec.entrypoint` or `spec.args` cannot be loaded or called."""
    WORKFLOW_CONFLICT = "WorkflowConflict"
    """The workflow id is used by another DAG, or the run is in a state that does not allow the call."""


REFUSALS: Final = frozenset(refusal.value for refusal in Refusal)
"""The values of `Refusal`."""


@dataclasses.dataclass(frozen=True)
class Submission:
    """What the operator passes to one submission attempt.

    Attributes:
        entrypoint: the workflow to load, as `module:attribute`.
        args: sha256 of the keyword arguments for the entrypoint; empty if there are none. They are stored with the run.
        workflow_id: the workflow id of the run.
        run_number: the number of the run under the workflow id. The submission creates or continues no other run.
        run_uuid: the uuid of the run.
        uid: uid of the Workflow object.
        attempt: number of the submission attempt.
        store: address of the store, without credentials.
        code: sha256 of the user's code that is stored with the run; empty if the image contains the code.
        max_resumes: how many consecutive claims may make no progress before the run fails; -1 means no limit.
        manager_unresponsive_seconds: seconds after which a manager that does not respond is given up.
        metadata: JSON values that are stored with the run.
        run_exists: whether the operator has read the run before. If it is missing, its data was lost, and the
            submission must not create it again from its first step.
    """

    entrypoint: str
    args: str
    workflow_id: str
    run_number: int
    run_uuid: str
    uid: str
    attempt: int
    store: str
    code: str
    max_resumes: int
    manager_unresponsive_seconds: float
    metadata: Mapping[str, Any]
    run_exists: bool = False

    def to_json(self) -> str:
        """Return the JSON text that `parse` reads."""
        content = {key: getattr(self, name) for name, key in _KEYS.items()}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    def command(self) -> str:
        """Return the shell command that executes this submission."""
        return shlex.join((*PROGRAM, self.to_json()))

    @classmethod
    def parse(cls, text: str) -> Submission:
        """Read a submission from the JSON text of the command line. Unknown keys are ignored.

        Raises:
            InvalidInputError: the text is not a submission.
        """
        try:
            content = json.loads(text)
            values = {name: content[key] for name, key in _KEYS.items()}
            values["manager_unresponsive_seconds"] = float(values["manager_unresponsive_seconds"])
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"cannot read the submission: {error!r} in {text[:_TEXT_SHOWN]}; pass the JSON text that the operator "
                "writes (workflow.submission.Submission.to_json)"
            ) from error


def encode_args(args: Mapping[str, Any]) -> bytes:
    """Return keyword arguments as they are stored with a run. They are not part of the command line.

    A command line has a size limit, and other users of the node can read it.
    """
    return json.dumps(dict(args), sort_keys=True, separators=(",", ":")).encode()


def decode_args(data: bytes) -> dict[str, Any]:
    """Return the keyword arguments that `encode_args` encoded."""
    args: dict[str, Any] = json.loads(data)
    return args


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


_KEYS: Final[Mapping[str, str]] = {field.name: _camel_case(field.name) for field in dataclasses.fields(Submission)}
"""The JSON key of each attribute."""
