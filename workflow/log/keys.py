"""Every key of the store, built in this one place. No key is a prefix folder of another (MinIO cannot hold both)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from workflow.errors import InvalidInputError, WrongTypeError

LONGEST_PART = 180
KEPT_OF_LONG = 110
CUT = "="  # quoting never yields it, so a shortened id is told from a whole one

NOTIFICATIONS = "notifications/"
MANAGERS = "managers/"
OWNED = "owned/"
WORKFLOWS = "workflows/"


def escape(workflow_id: str) -> str:
    """The id as one path part of at most 180 bytes.

    Raises:
        WrongType: it is no text.
        Invalid: it is empty, `.` or `..`.
    """
    if not isinstance(workflow_id, str) or workflow_id in ("", ".", ".."):
        kind = InvalidInputError if isinstance(workflow_id, str) else WrongTypeError
        raise kind(f"{workflow_id!r} cannot be a workflow id; give any text but '', '.' and '..'")
    part = quote(workflow_id, safe="", errors="surrogatepass")
    if len(part) <= LONGEST_PART:
        return part
    digest = hashlib.sha256(workflow_id.encode("utf-8", "surrogatepass")).hexdigest()
    return part[:KEPT_OF_LONG] + CUT + digest


def unescape(part: str) -> str | None:
    """The id that `escape` made the part from; None where it was shortened and only the log knows the whole."""
    return None if CUT in part else unquote(part, errors="surrogatepass")


def registry(workflow_id: str) -> str:
    """Prefix of the runs' names under one id."""
    return f"{WORKFLOWS}{escape(workflow_id)}/registry/"


def registry_entry(workflow_id: str, run_number: int) -> str:
    """The key whose creation makes the n-th run, or forbids it."""
    return f"{registry(workflow_id)}{run_number:010d}"


def runs(workflow_id: str) -> str:
    """Prefix of all run folders under one id."""
    return f"{WORKFLOWS}{escape(workflow_id)}/runs/"


def notification(run_uuid: str, request: str) -> str:
    """0 bytes: "look into this run's inbox"."""
    return f"{NOTIFICATIONS}{run_uuid}.{request}"


def owned(manager: str, run_uuid: str = "") -> str:
    """A run that the manager may have claimed; without a run, the prefix of all of them."""
    return f"{OWNED}{manager}/{run_uuid}"


def heartbeat(manager: str) -> str:
    """The one key that is overwritten."""
    return f"{MANAGERS}{manager}"


def index(status: str, workflow_id: str | None = None) -> str:
    """0 bytes: a hint that the workflow has this status; without an id, the prefix of all of that status."""
    return f"index/{status}/{escape(workflow_id) if workflow_id is not None else ''}"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The keys below one run's folder."""

    workflow_id: str
    run_number: int
    run_uuid: str

    @property
    def folder(self) -> str:
        """Prefix of all of the run's keys."""
        return f"{runs(self.workflow_id)}{self.run_number}-{self.run_uuid}/"

    @property
    def segments(self) -> str:
        """Prefix of the log."""
        return f"{self.folder}log/"

    def segment(self, seq: int) -> str:
        """The log's seq-th segment, from 1."""
        return f"{self.segments}{seq:020d}"

    @property
    def snapshots(self) -> str:
        """Prefix of the snapshots."""
        return f"{self.folder}snapshot/"

    def snapshot(self, seq: int) -> str:
        """The state folded up to seq."""
        return f"{self.snapshots}{seq:020d}"

    def blob(self, sha256: str) -> str:
        """A large value, a function, an object's content, the run's code."""
        return f"{self.folder}blobs/{sha256}"

    @property
    def inbox(self) -> str:
        """Prefix of the requests."""
        return f"{self.folder}inbox/"

    def request(self, request: str) -> str:
        """One request."""
        return f"{self.inbox}{request}"


_RUN_KEY = re.compile(r"workflows/[^/]+/runs/(?P<n>[0-9]+)-(?P<uuid>[^/]+)/(?P<kind>[^/]+)/(?P<last>[^/]+)")


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a key below a run's folder says.

    Attributes:
        n, run_uuid: of the run.
        kind: log, snapshot, blobs or inbox.
        last: the part behind it.
    """

    run_number: int
    run_uuid: str
    kind: str
    last: str


def run_key(key: str) -> RunKey | None:
    """What the key of a run's object says; None where it is no such key."""
    found = _RUN_KEY.fullmatch(key)
    return RunKey(int(found["n"]), found["uuid"], found["kind"], found["last"]) if found is not None else None


def last_part(key: str) -> str:
    """What stands behind the last `/`."""
    return key.rpartition("/")[2]
