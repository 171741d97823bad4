"""Leader election by a Lease, with `kubernetes.aio.leaderelection`.

Two replicas that both act as leader cause no damage. Every status write is conditional on a resourceVersion, and the
log of a run fences its owners. The lease only avoids duplicate work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import structlog
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from workflow_operator.adapters.kube import LEASES, Kube, Object
from workflow_operator.errors import OperatorError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """A Lease, and the replica that wants to hold it.

    Attributes:
        namespace: the namespace of the Lease.
        name: the name of the Lease.
        identity: the name of this replica.
        seconds: the duration of the lease. A holder that does not renew it for this long can be replaced.
    """

    namespace: str
    name: str
    identity: str
    seconds: int


class LeaseLostError(OperatorError):
    """This replica lost the lease and must stop, because another replica may be the leader."""


class LeaseLock(BaseLock):
    """The Lease in the interface of the election. If the API server does not answer, the election retries."""

    def __init__(self, lease: LeaseConfig, kube: Kube) -> None:
        super().__init__(lease.name, lease.namespace, lease.identity)
        self._kube = Kube(kube.api, timeout=lease.seconds / 3)
        self._resource_version = ""

    async def get(self, name: str, namespace: str) -> Any:
        """Return True and the record, or False and the reason."""
        try:
            found = await self._kube.get(LEASES, namespace, name)
        except OperatorError as error:
            return False, ApiException(status=0, reason=str(error))
        if found is None:
            return False, ApiException(status=404, reason="Not Found", body='{"code": 404}')
        spec, self._resource_version = found.get("spec") or {}, found["metadata"]["resourceVersion"]
        seconds = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            spec.get("holderIdentity"), seconds and str(seconds), spec.get("acquireTime"), spec.get("renewTime")
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create the Lease, and return whether that succeeded."""
        return await self._succeeds(
            self._kube.create(LEASES, namespace, {"metadata": {"name": name}, "spec": _spec(election_record)})
        )

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Replace the record that was last read, and return whether that succeeded."""
        body = {"metadata": {"resourceVersion": self._resource_version}, "spec": _spec(updated_record)}
        return await self._succeeds(self._kube.patch(LEASES, namespace, name, body))

    async def _succeeds(self, call: Awaitable[Object | None]) -> bool:
        try:
            return await call is not None
        except OperatorError as error:
            log.info("cannot write the lease", error=str(error))
            return False


def _spec(record: LeaderElectionRecord) -> Object:
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(float(record.lease_duration or 0)),
        "acquireTime": _micro_time(record.acquire_time),
        "renewTime": _micro_time(record.renew_time),
    }


def _micro_time(text: str | None) -> str | None:
    """Return the election's local time in the format of Kubernetes. A time in that format is returned unchanged."""
    if text is None or text.endswith("Z"):
        return text
    moment = datetime.fromisoformat(text).astimezone(timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def run_as_leader(lease: LeaseConfig, kube: Kube, work: Callable[[], Awaitable[None]]) -> None:
    """Wait until this replica is the leader, then run `work`. Finally release the lease, so that no replica waits.

    Args:
        lease: the lease and this replica.
        kube: the API server.
        work: runs until it returns, fails or is canceled.

    Raises:
        LeaseLostError: the lease could not be renewed in time; the work was canceled.
    """
    started = asyncio.Event()

    async def on_started() -> None:
        started.set()

    config = Config(
        LeaseLock(lease, kube),
        lease_duration=lease.seconds,
        renew_deadline=lease.seconds * 2 / 3,
        retry_period=max(lease.seconds / 8, 1),
        onstarted_leading=on_started,
        onstopped_leading=None,  # type: ignore[arg-type]  # its documentation asks for None
    )
    election = asyncio.create_task(LeaderElection(config).run())
    try:
        await _run_while_elected(election, started.wait())
        log.info("leading", identity=lease.identity)
        await _run_while_elected(election, work())
    finally:
        election.cancel()
        await asyncio.gather(election, return_exceptions=True)
        if started.is_set():
            await _release(lease, kube)


async def _run_while_elected(election: asyncio.Task[Any], work: Awaitable[Any]) -> None:
    """Wait for `work`, and cancel it if the election ends first.

    Raises:
        LeaseLostError: the election ended.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((election, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return
        raise LeaseLostError("the lease could not be renewed in time") from election.exception()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _release(lease: LeaseConfig, kube: Kube) -> None:
    """Remove the holder from the Lease if this replica still holds it."""
    try:
        found = await kube.get(LEASES, lease.namespace, lease.name)
        if found and found["spec"].get("holderIdentity") == lease.identity:
            version = found["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": None}}
            await kube.patch(LEASES, lease.namespace, lease.name, body)
    except OperatorError as error:
        log.info("cannot release the lease", error=str(error))
