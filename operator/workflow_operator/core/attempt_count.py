"""Counts the attempts of a Workflow that ended, for its limits and for the delay before the next attempt.

`decide` calls `count` once for each attempt. An attempt made progress if a step finished during it. Three numbers
follow, and progress resets all of them:

- `without_progress`: all attempts in a row without progress. The delay before the next attempt grows with it.
- `never_ran`: those that failed before they owned the run. `maxResumes` limits them together with the epochs without
  progress in the log.
- `disruptions`: those that Kubernetes ended. `maxDisruptions` limits them. The log counts each claim until a step
  finishes, also the claim after a disruption, so `excused` is subtracted from that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from workflow_operator.api.status import Resumes

HEAD_DISRUPTED, HEAD_NODE_LOST, CLUSTER_SUSPENDED = "HeadDisrupted", "HeadNodeLost", "RayClusterSuspended"
DISRUPTIONS = frozenset({HEAD_DISRUPTED, HEAD_NODE_LOST, CLUSTER_SUSPENDED})
"""The reasons of failures that Kubernetes caused."""

TEMPLATE_CHANGED = "TemplateChanged"
RESET = {"without_progress": 0, "never_ran": 0, "disruptions": 0, "excused": 0}
"""The numbers after progress."""


class AttemptEnd(Enum):
    """What ended an attempt."""

    FAILURE = "its cluster or its submission failed"
    DISRUPTION = "Kubernetes ended it"
    USER = "the user changed what it runs on"


def end_of(reason: str) -> AttemptEnd:
    """Return what ended an attempt with this reason of a failure."""
    if reason in DISRUPTIONS:
        return AttemptEnd.DISRUPTION
    return AttemptEnd.USER if reason == TEMPLATE_CHANGED else AttemptEnd.FAILURE


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that ended.

    Attributes:
        end: what ended it.
        progressed: whether a step finished during it; None if the status does not show it.
        owned: whether it owned the run, or attached to a manager that owned it.
        log_read: whether the log was read when it ended. Otherwise it is not known whether it owned the run.
        epochs: the consecutive epochs without progress in the log; 0 if another owner has the run.
    """

    end: AttemptEnd
    progressed: bool | None
    owned: bool
    log_read: bool
    epochs: int


def count(before: Resumes, ended: EndedAttempt) -> Resumes:
    """Return the numbers after an attempt ended.

    Args:
        before: the numbers when it started, or zeros after its last progress.
        ended: the attempt.
    """
    old = before.model_copy(update=RESET) if ended.progressed else before
    disrupted = ended.end is AttemptEnd.DISRUPTION
    never_ran = old.never_ran + (ended.end is AttemptEnd.FAILURE and ended.log_read and not ended.owned)
    in_a_row = old.without_progress + 1 if ended.progressed is False else 0
    return old.model_copy(
        update={
            "never_ran": never_ran,
            "without_progress": max(in_a_row, ended.epochs + never_ran),
            "disruptions": old.disruptions + disrupted,
            "excused": old.excused + (disrupted and ended.owned),
        }
    )


def counted(resumes: Resumes, epochs: int) -> int:
    """Return the number that `maxResumes` limits: epochs and attempts without progress, except disruptions.

    Args:
        resumes: the numbers in the status.
        epochs: the consecutive epochs without progress in the log; 0 if another owner has the run.
    """
    return max(epochs - resumes.excused, 0) + resumes.never_ran
