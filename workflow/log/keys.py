"""All keys of the store are built here. No key is a folder of another key, because MinIO cannot store both."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from workflow.model import ids

LONGEST_PART = 180
"""Bytes of an escaped workflow id; a longer one is shortened."""

KEPT_OF_LONG = 110
"""Bytes of an escaped workflow id that its shortened form begins with."""

CUT = "="
"""Separates the beginning of a shortened id from its hash. Quoting never yields it, so that a whole id has none."""

NOTIFICATIONS = "notifications/"
MANAGERS = "managers/"
OWNED = "owned/"
WORKFLOWS = "workflows/"
INDEX = "index/"

DRIVERS = "drivers"
"""The part of the keys of drivers' logs below the folder of their run."""

PROBE = f"{CUT}probe"
"""Begins the part of a key that no workflow id yields, for objects of a probe."""

PROBED_RUN = f"{WORKFLOWS}{PROBE}/runs/"
"""The keys of a probe, which have as many parts as the keys of a run."""

PROBED_FOLDERS = tuple(f"{folder}{PROBE}/" for folder in (MANAGERS, OWNED, NOTIFICATIONS, INDEX))
"""The other folders that runs use."""


def escape(workflow_id: str) -> str:
    """Return a workflow id as one part of a key, at most 180 bytes long.

    Raises:
        WrongTypeError: the id is not a string.
        InvalidInputError: the id is empty, `.` or `..`.
    """
    ids.check(workflow_id, repr(workflow_id))
    part = quote(workflow_id, safe="", errors="surrogatepass")
    if len(part) <= LONGEST_PART:
        return part
    digest = hashlib.sha256(workflow_id.encode("utf-8", "surrogatepass")).hexdigest()
    return part[:KEPT_OF_LONG] + CUT + digest


def unescape(part: str) -> str | None:
    """Return the workflow id of an escaped part; None if it was shortened, so that only the log has the whole id."""
    return None if CUT in part else unquote(part, errors="surrogatepass")


def registry(workflow_id: str) -> str:
    """Return the prefix of all registry entries of a workflow id."""
    return f"{WORKFLOWS}{escape(workflow_id)}/registry/"


def registry_entry(workflow_id: str, run_number: int) -> str:
    """Return the key whose creation makes a run, or forbids it with a tombstone."""
    return f"{registry(workflow_id)}{run_number:010d}"


def runs(workflow_id: str) -> str:
    """Return the prefix of the folders of all runs of a workflow id."""
    return f"{WORKFLOWS}{escape(workflow_id)}/runs/"


def notification(run_uuid: str, request: str) -> str:
    """Return the key of an empty object that asks the owner of a run to read its inbox."""
    return f"{NOTIFICATIONS}{run_uuid}.{request}"


def owned(manager: str, run_uuid: str = "") -> str:
    """Return the key that records that a manager may own a run; without a run, the prefix of all of them."""
    return f"{OWNED}{manager}/{run_uuid}"


def heartbeat(manager: str) -> str:
    """Return the key of a manager's heartbeat, the only key that is overwritten."""
    return f"{MANAGERS}{manager}"


def index(status: str, workflow_id: str | None = None) -> str:
    """Return the key of an index entry; without a workflow id, the prefix of all entries of the status."""
    return f"{INDEX}{status}/{escape(workflow_id) if workflow_id is not None else ''}"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The keys below the folder of one run."""

    workflow_id: str
    run_number: int
    run_uuid: str

    @property
    def folder(self) -> str:
        """The prefix of all keys of the run."""
        return f"{runs(self.workflow_id)}{self.run_number}-{self.run_uuid}/"

    @property
    def segments(self) -> str:
        """The prefix of the segments."""
        return f"{self.folder}log/"

    def segment(self, seq: int) -> str:
        """Return the key of a segment; the first has seq 1."""
        return f"{self.segments}{seq:020d}"

    @property
    def snapshots(self) -> str:
        """The prefix of the snapshots."""
        return f"{self.folder}snapshot/"

    def snapshot(self, seq: int) -> str:
        """Return the key of the snapshot of the state up to segment `seq`."""
        return f"{self.snapshots}{seq:020d}"

    def blob(self, sha256: str) -> str:
        """Return the key of a blob: a large value, a function, the content of a Ray object, or the user's code."""
        return f"{self.folder}blobs/{sha256}"

    @property
    def inbox(self) -> str:
        """The prefix of the requests."""
        return f"{self.folder}inbox/"

    def request(self, request: str) -> str:
        """Return the key of a request."""
        return f"{self.inbox}{request}"

    @property
    def driver_logs(self) -> str:
        """The prefix of the logs of drivers that have ended."""
        return f"{self.folder}{DRIVERS}/"

    def driver_log(self, submission_id: str) -> str:
        """Return the key of the end of a driver's log."""
        return f"{self.driver_logs}{submission_id}"


_RUN_KEY = re.compile(
    r"workflows/[^/]+/runs/(?P<run_number>[0-9]+)-(?P<run_uuid>[^/]+)/(?P<kind>[^/]+)/(?P<last>[^/]+)"
)


@dataclass(frozen=True, slots=True)
class RunKey:
    """The parts of a key below the folder of a run.

    Attributes:
        run_number: the number of the run under its workflow id.
        run_uuid: the uuid of the run.
        kind: log, snapshot, blobs, inbox or drivers.
        last: the last part of the key.
    """

    run_number: int
    run_uuid: str
    kind: str
    last: str


def run_key(key: str) -> RunKey | None:
    """Split the key of an object of a run; None if it is another key."""
    found = _RUN_KEY.fullmatch(key)
    if found is None:
        return None
    return RunKey(int(found["run_number"]), found["run_uuid"], found["kind"], found["last"])


def last_part(key: str) -> str:
    """Return the part of a key after its last `/`."""
    return key.rpartition("/")[2]
